"""How a provider's transactions go through the canonical statuses: data, one value for each provider.

`shared.event.timeline` applies it. What a provider does not document is inferred, and says so where it
stands.
"""

from collections.abc import Mapping

import msgspec


class Lifecycle(msgspec.Struct, frozen=True, kw_only=True):
    """Which status may follow which.

    A status may follow any of an earlier stage or its own; `final` ones end the transaction, but for the
    pairs of them in `settling`: a refund may still follow a cancellation. A status of no stage is one that
    a provider made up itself: it ends nothing, and follows and precedes any but a final one.
    """

    stages: tuple[frozenset[str], ...]
    final: frozenset[str]
    settling: frozenset[tuple[str, str]] = frozenset()
    restores: Mapping[str, str] = {}
    """Canonical type → the status that it ends: the one before comes back."""
    answers: Mapping[str, str] = {}
    """Status → the one it answers: each answers one. What is answered before it arrives is late."""
    many_payments: bool = False
    """Whether one transaction has payments that each go their own way, under ids of their own."""
    running_totals: frozenset[str] = frozenset()
    """The provider's events whose money is the transaction's total up to then, not their own."""

    def stage(self, status: str | None) -> int:
        """Return how far along a status is; 0 for one of no stage."""
        return next((n for n, stage in enumerate(self.stages) if status in stage), 0)

    def allows(self, now: str | None, then: str) -> bool:
        """Tell whether a transaction in status `now` may go to `then`, or stay in it."""
        if now is None or now == then:
            return True
        if now in self.final:
            return (now, then) in self.settling
        known = [any(status in stage for stage in self.stages) for status in (now, then)]
        return not all(known) or self.stage(then) >= self.stage(now)


def stages(*names: str) -> tuple[frozenset[str], ...]:
    """Return stages, each written as its statuses with spaces between."""
    return tuple(frozenset(each.split()) for each in names)


ANY = Lifecycle(
    stages=stages(
        "open opened",
        "accepted",
        "pending failed",
        "funded in_review on_hold",
        "shipped",
        "delivered",
        "disputed resolved",
        "payout_pending",
        "paid released refunded",
        "completed cancelled rejected",
    ),
    final=frozenset({"completed", "cancelled", "rejected"}),
    restores={"payment.review_finished": "in_review"},
)
"""What holds of a provider of which nothing else is known."""
