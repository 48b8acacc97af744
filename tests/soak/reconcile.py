"""The reconciliation: what was answered 200 against what the targets got. No clock, no I/O.

It believes the senders and the targets; what the gateway says of itself only tells where a thing stands.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from shared.event.ids import stream_id
from tests.soak.records import Arrival, Held, Request, Rule

HANDSHAKE = "handshake"
"""A provider's test on set-up: it goes to no target, and all of its requests have the same body."""


class Problem(msgspec.Struct, frozen=True):
    """Something that must not be. `id` is the receipt, or the message where there is none."""

    id: str
    what: str
    where: str = ""


class AtTarget(msgspec.Struct):
    """One target's figures. `repeats` came again after the target had said that it has them.

    `overtaken` are repeats that came when a later event of their transaction had come already.
    """

    expected: int = 0
    delivered: int = 0
    dead: int = 0
    requests: int = 0
    repeats: int = 0
    overtaken: int = 0


class Reconciliation(msgspec.Struct):
    """What came of it all. `accepted` got a receipt; `only_answered` a 200 without one, as a bare handshake does;
    `unanswered_held` were kept though their sender got no 200.
    """

    requests: int = 0
    messages: int = 0
    accepted: int = 0
    only_answered: int = 0
    refused: int = 0
    unavailable: int = 0
    unanswered: int = 0
    admitted: int = 0
    duplicates: int = 0
    quarantined: int = 0
    unanswered_held: int = 0
    targets: dict[str, AtTarget] = {}
    problems: list[Problem] = []


def in_order(event_id: str) -> tuple[int, int]:
    """Return an event's place in its inbox."""
    ms, _, sequence = stream_id(event_id).partition("-")
    return int(ms), int(sequence)


def reconcile(
    requests: Sequence[Request], arrivals: Sequence[Arrival], held: Held, rules: Sequence[Rule]
) -> Reconciliation:
    """Account for every request that was answered 200, and for all else that the gateway holds."""
    return _Books(requests, arrivals, held, rules).close()


class _Books:
    def __init__(
        self, requests: Sequence[Request], arrivals: Sequence[Arrival], held: Held, rules: Sequence[Rule]
    ) -> None:
        self.requests, self.arrivals, self.held, self.rules = requests, arrivals, held, rules
        self.problems: list[Problem] = []
        self.by_receipt: dict[str, Request] = {}
        self.by_digest: defaultdict[str, list[Request]] = defaultdict(list)
        for request in requests:
            self.by_digest[request.digest].append(request)
        self.came: defaultdict[tuple[str, str], list[Arrival]] = defaultdict(list)
        self.types: dict[str, str] = {}
        for arrival in arrivals:
            self.came[arrival.target, arrival.id].append(arrival)
            self.types[arrival.id] = arrival.type
        self.digests = {
            **held.events,
            **held.quarantined,
            **{id: digest for id, (_, digest) in held.duplicates.items()},
        }

    def wrong(self, id: str, what: str) -> None:
        self.problems.append(Problem(id, what, self.whereabouts(id)))

    def close(self) -> Reconciliation:
        self.check_answers()
        for id in sorted({*self.by_receipt, *self.digests, *self.held.inbox}):
            self.check_kept(id)
        self.check_copies()
        targets = {rule.target: self.check_target(rule) for rule in self.rules}
        for arrival in self.arrivals:
            if arrival.problem:
                self.wrong(arrival.id, f"came to {arrival.target}: {arrival.problem}")
        statuses = Counter(request.status for request in self.requests)
        return Reconciliation(
            requests=len(self.requests),
            messages=len({request.message for request in self.requests}),
            accepted=len(self.by_receipt),
            only_answered=sum(request.status == 200 and not request.receipt for request in self.requests),
            refused=sum(count for status, count in statuses.items() if status and 400 <= status < 500),
            unavailable=statuses[503],
            unanswered=statuses[None],
            admitted=len(self.held.events),
            duplicates=len(self.held.duplicates),
            quarantined=len(self.held.quarantined),
            unanswered_held=len(self.digests.keys() - self.by_receipt.keys()),
            targets=targets,
            problems=self.problems,
        )

    def check_answers(self) -> None:
        for request in self.requests:
            if request.receipt in self.by_receipt:
                self.wrong(request.receipt, "two requests got this receipt")
            if request.receipt:
                self.by_receipt[request.receipt] = request
            elif request.status == 200 and request.event != HANDSHAKE:
                self.wrong(request.message, "answered 200 without a receipt")
            if not request.maybe_kept and request.status not in request.expected:
                self.wrong(request.receipt or request.message, f"answered {request.status}")

    def senders(self, id: str) -> list[Request]:
        """Return what an id may be: its receipt's request, else those of its body that nobody answered."""
        if id in self.by_receipt:
            return [self.by_receipt[id]]
        return [request for request in self.by_digest[self.digests.get(id, "")] if request.maybe_kept]

    def check_kept(self, id: str) -> None:
        if id in self.held.inbox:
            self.wrong(id, "still in the inbox")
        elif id not in self.digests:
            self.wrong(id, "answered 200, and the gateway knows nothing of it")
        elif not self.senders(id):
            self.wrong(id, "held, and nobody sent it")
        elif self.senders(id)[0].digest != self.digests[id]:
            self.wrong(id, "held with another body than was sent")
        elif id in self.held.duplicates:
            self.check_duplicate(id)
        elif (id in self.held.quarantined) == self.senders(id)[0].whole:
            self.wrong(
                id, "whole, and in quarantine" if id in self.held.quarantined else "not whole, and an event"
            )

    def check_duplicate(self, id: str) -> None:
        of = self.held.duplicates[id][0]
        if of not in self.held.events and of not in self.held.quarantined:
            self.wrong(id, f"a duplicate of {of}, which is neither an event nor in quarantine")
        mine = self.senders(id)
        if mine[0].event != HANDSHAKE and not {each.message for each in mine} & {
            each.message for each in self.senders(of)
        }:
            self.wrong(id, f"taken for a copy of {of}, and is not")

    def check_copies(self) -> None:
        """Check that no message is two events: neither by its receipts, nor by its body."""
        by_message: defaultdict[str, list[str]] = defaultdict(list)
        by_body: defaultdict[str, list[str]] = defaultdict(list)
        for id, digest in self.held.events.items():
            by_body[digest].append(id)
            if id in self.by_receipt:
                by_message[self.by_receipt[id].message].append(id)
        for message, ids in by_message.items():
            if len(ids) > 1:
                self.wrong(
                    min(ids, key=in_order), f"{message} was sent again and is {len(ids)} events: {ids}"
                )
        for digest, ids in by_body.items():
            messages = {request.message for request in self.by_digest[digest]}
            if 0 < len(messages) < len(ids):
                self.wrong(ids[0], f"{len(messages)} messages with one body are {len(ids)} events: {ids}")

    def check_target(self, rule: Rule) -> AtTarget:
        figures = AtTarget()
        dead = self.held.dead.get(rule.target, frozenset())
        wanted = {id for id in self.held.events if self.wants(rule, id)}
        for id in sorted(wanted):
            taken = sum(arrival.taken for arrival in self.came[rule.target, id])
            figures.expected += 1
            figures.delivered += taken > 0
            figures.dead += id in dead
            figures.repeats += max(0, taken - 1)
            if not taken and id not in dead:
                self.wrong(id, f"never came to {rule.target}, and is no dead letter there")
            if id in dead and not rule.gives_up:
                self.wrong(id, f"a dead letter of {rule.target}, which gives nothing up")
        for arrival in self.arrivals:
            if arrival.target == rule.target:
                figures.requests += 1
                if arrival.id not in wanted:
                    self.wrong(arrival.id, f"came to {rule.target}, which has no part in it")
        if rule.ordered:
            self.check_order(rule.target, dead, figures)
        return figures

    def wants(self, rule: Rule, id: str) -> bool:
        return any(
            request.event != HANDSHAKE and rule.wants(request.source, self.types.get(id, ""))
            for request in self.senders(id)
        )

    def check_order(self, target: str, dead: frozenset[str], figures: AtTarget) -> None:
        """Check that nothing of a transaction came before all older of it were taken, or given up."""
        transactions: defaultdict[str, dict[str, list[Arrival]]] = defaultdict(dict)
        for (name, id), came in self.came.items():
            if name == target and came and came[0].transaction:
                transactions[came[0].transaction][id] = came
        for events in transactions.values():
            reached, last = 0.0, ""  # when all older ones had been taken, and which of them was the last
            for id in sorted(events, key=in_order):
                taken = [arrival.answered_at for arrival in events[id] if arrival.taken]
                if min(arrival.at for arrival in events[id]) < reached:
                    self.wrong(
                        id, f"came to {target} before {last}, an older one of its transaction, was taken"
                    )
                if not taken and id not in dead:
                    break  # said already, and nothing can be said of what follows
                if taken and min(taken) > reached:
                    reached, last = min(taken), id
            for older, newer in pairwise(sorted(events, key=in_order)):
                first = min(arrival.at for arrival in events[newer])
                figures.overtaken += sum(arrival.at > first for arrival in events[older])

    def whereabouts(self, id: str) -> str:
        """Say where an id was last seen, by all three witnesses."""
        said: list[str] = []
        if request := self.by_receipt.get(id):
            said.append(f"{request.source} {request.event}, message {request.message}")
        for name, ids in (
            ("an event", self.held.events),
            ("a duplicate", self.held.duplicates),
            ("in quarantine", self.held.quarantined),
            ("in the inbox", self.held.inbox),
        ):
            if id in ids:
                said.append(name)
        for rule in self.rules:
            came = self.came.get((rule.target, id), [])
            state = self.held.waiting.get(rule.target, {}).get(id)
            state = state or self.held.ends.get(rule.target, {}).get(id)
            if came or state:
                answers = ", ".join(str(arrival.status or "no answer") for arrival in came[-5:])
                said.append(f"{rule.target}: {state or 'unknown'}, came {len(came)} times ({answers})")
        return "; ".join(said)
