"""The version of the layout that `shared.store.keys` documents. Redis holds it beside the records.

Each version of Headrace reads what earlier ones wrote, but perhaps not what a later one writes. So a process
or a command that finds a later layout does not start. A process that runs already goes on: an upgrade is
under way, and will replace it.
"""

from collections.abc import Iterable

from shared.errors import StoreUnfit
from shared.store.client import RedisClient

LAYOUT = 3
"""The layout that this version of Headrace writes.

Only a change that the version before cannot read raises it.
"""


async def layout_of(client: RedisClient, sources: Iterable[str]) -> int:
    """Return the version of the records in Redis, 0 if there are none.

    Records without a version are found by the names of `sources`, the configured ones. Raises:
    StoreUnavailable.
    """
    return int(await client.run("layout", [client.keys.layout], [0, *sources]))


async def take_up(client: RedisClient, sources: Iterable[str]) -> int:
    """Record in Redis that this version writes from now on. Returns the version that the records had.

    Raises: StoreUnfit if the records are of a later version; StoreUnavailable.
    """
    before = int(await client.run("layout", [client.keys.layout], [LAYOUT, *sources]))
    refuse_later(before)
    return before


def refuse_later(version: int) -> None:
    """Raises: StoreUnfit if `version` is later than what this version of Headrace can read."""
    if version > LAYOUT:
        raise StoreUnfit(
            f"Redis has records of layout {version}, and this version of Headrace reads no later one than"
            f" {LAYOUT}: start the newer version that wrote them, or restore a backup from before the upgrade"
        )
