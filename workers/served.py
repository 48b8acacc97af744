"""A target in one worker process: its settings, made ready, and what is under way for it."""

import asyncio

from shared.delivery.backoff import Backoff
from shared.delivery.outgoing import Outgoing
from shared.delivery.verdicts import Policy
from shared.routing.redactions import Redactions
from shared.settings import Config, Target
from shared.store.due import LEASE_BEYOND_TIMEOUT_MS, BreakerPolicy, Limits
from shared.values import duration_text


def _max_age_s(target: Target) -> float:
    """Return the greatest age of a delivery; by default, the longest time that all attempts of its schedule
    take.
    """
    return target.max_age or Backoff(target.retry).horizon_s() + target.retry.attempts * target.timeout


class ServedTarget:
    """One target in this process. `in_flight` counts its attempts under way here.

    `look_again`: there was more to claim than room for it. `timer` fires when the next delivery is due.
    """

    def __init__(self, config: Config, target: Target) -> None:
        self.name = target.name
        self.in_flight = 0
        self.look_again = False
        self.timer: asyncio.TimerHandle | None = None
        self.configure(config, target)

    def configure(self, config: Config, target: Target) -> None:
        """Apply the target's settings, from the next attempt on."""
        self.settings = target
        self.ordered = target.ordering == "transaction"
        self.outgoing = Outgoing(config, target, Redactions(config, target))
        backoff = Backoff(target.retry)
        self.policy = Policy(
            backoff,
            longest_s=target.retry.max,
            give_up_on=target.give_up_on,
            max_age_s=_max_age_s(target),
        )
        self.limits = Limits(
            lease_ms=target.timeout.ms + LEASE_BEYOND_TIMEOUT_MS,
            concurrency=target.concurrency,
            interval_us=target.rate.interval_us if target.rate else 0,
            burst=target.rate.burst if target.rate else 1,
        )
        self.breaker_policy = BreakerPolicy(
            failures=target.breaker.failures,
            first_ms=target.breaker.initial.ms,
            longest_ms=target.breaker.max.ms,
            disable_after_ms=target.disable_after.ms,
            disable_reason=f"failed for longer than disable_after {duration_text(target.disable_after)}",
            hold=target.holds,
        )
