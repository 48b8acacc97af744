"""How a provider's transactions go through the canonical statuses. It is data: one value for each provider.

`shared.event.timeline` applies it. What a provider does not document is inferred; a comment beside it says
so.
"""

from collections.abc import Mapping

import msgspec


class Lifecycle(msgspec.Struct, frozen=True, kw_only=True):
    """Which status may follow which.

    A status may follow any status of an earlier stage or of its own. A `final` status ends the transaction,
    except for the pairs in `settling`: a refund may still follow a cancellation. A status without a stage is
    a provider's own: it ends nothing, and may follow and precede any status but a final one.
    """

    stages: tuple[frozenset[str], ...]
    final: frozenset[str]
    settling: frozenset[tuple[str, str]] = frozenset()
    restores: Mapping[str, str] = {}
    """Canonical type → the status that it ends. The status before that one applies again."""
    answers: Mapping[str, str] = {}
    """Status → the status that it answers. If the answered event arrives after the answer, it is late."""
    many_payments: bool = False
    """Whether a transaction has several payments, each with its own id and its own course."""
    running_totals: frozenset[str] = frozenset()
    """The provider's events whose amount is the transaction's total so far, and not the event's own."""

    def stage(self, status: str | None) -> int:
        """Return the number of a status's stage; 0 if it has none."""
        return next((n for n, stage in enumerate(self.stages) if status in stage), 0)

    def allows(self, now: str | None, then: str) -> bool:
        """Tell whether a transaction in status `now` may go to status `then`. It may stay in a status."""
        if now is None or now == then:
            return True
        if now in self.final:
            return (now, then) in self.settling
        known = [any(status in stage for stage in self.stages) for status in (now, then)]
        return not all(known) or self.stage(then) >= self.stage(now)


def stages(*names: str) -> tuple[frozenset[str], ...]:
    """Return stages from texts: each is a stage's statuses, separated by spaces."""
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
"""The lifecycle of a provider that documents none."""
