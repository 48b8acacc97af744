"""Every provider's scenarios, and who writes them."""

import msgspec

from shared.simulation import standard_webhooks, trustap, trustist, trustshare, truust
from shared.simulation.scenarios import Scenario, Write


class Play(msgspec.Struct, frozen=True):
    """A provider's scenarios, in the order in which they are listed, and the writer of their requests."""

    scenarios: tuple[Scenario, ...]
    write: Write


CATALOGUE: dict[str, Play] = {
    "trustshare": Play(trustshare.SCENARIOS, trustshare.write),
    "trustap": Play(trustap.SCENARIOS, trustap.write),
    "truust": Play(truust.SCENARIOS, truust.write),
    "trustist": Play(trustist.SCENARIOS, trustist.write),
    "standard-webhooks": Play(standard_webhooks.SCENARIOS, standard_webhooks.write),
}
"""Provider → its play. A provider may have none."""
