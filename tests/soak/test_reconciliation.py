"""The soak's reconciliation finds what it is there to find: each test loses or doubles one thing."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from shared.event.ids import event_id
from tests.soak.reconcile import Problem, Reconciliation, reconcile
from tests.soak.records import Arrival, Held, Request, Rule

RULES = (
    Rule("all"),
    Rule("payments", types=("payment.*",), gives_up=True),
    Rule("ordered", sources=("trustap",), ordered=True),
)


def id_of(number: int) -> str:
    return event_id("trustap", f"1700000000000-{number}")


def sent(number: int, message: str = "", **fields: Any) -> Request:
    defaults: dict[str, Any] = {
        "message": message or f"message-{number}",
        "source": "trustap",
        "event": "basic_tx.joined",
        "digest": f"digest-of-{message or f'message-{number}'}",
        "sent_at": float(number),
        "answered_at": number + 0.5,
        "status": 200,
        "receipt": id_of(number),
    }
    return Request(**(defaults | fields))


def came(target: str, number: int, at: float | None = None, **fields: Any) -> Arrival:
    at = number + 0.6 if at is None else at
    defaults: dict[str, Any] = {
        "target": target,
        "id": id_of(number),
        "at": at,
        "answered_at": at,
        "status": 200,
        "type": "payment.received",
        "transaction": "t",
    }
    return Arrival(**(defaults | fields))


class World:
    """Five requests: two events in one transaction, a copy of the first, one quarantined, one unanswered."""

    def __init__(self) -> None:
        self.requests = [
            sent(1),
            sent(2, "message-1"),
            sent(3, whole=False),
            sent(4, receipt="", status=None),
            sent(5, receipt="", status=503),
        ]
        self.arrivals = [came(rule.target, number) for rule in RULES for number in (1, 4)]
        self.held = Held(
            events={id_of(1): "digest-of-message-1", id_of(4): "digest-of-message-4"},
            duplicates={id_of(2): (id_of(1), "digest-of-message-1")},
            quarantined={id_of(3): "digest-of-message-3"},
        )

    def change(self, **fields: Any) -> None:
        self.held = msgspec.structs.replace(self.held, **fields)

    def without(self, target: str, number: int) -> None:
        self.arrivals = [a for a in self.arrivals if (a.target, a.id) != (target, id_of(number))]

    def reconcile(self) -> Reconciliation:
        return reconcile(self.requests, self.arrivals, self.held, RULES)

    def problem(self) -> Problem:
        problems = self.reconcile().problems
        assert len(problems) == 1, problems
        return problems[0]


def test_what_is_all_there_reconciles() -> None:
    result = World().reconcile()
    assert result.problems == []
    assert (result.accepted, result.unanswered, result.unavailable) == (3, 1, 1)
    assert (result.admitted, result.duplicates, result.quarantined, result.unanswered_held) == (2, 1, 1, 1)
    assert {name: (at.expected, at.delivered) for name, at in result.targets.items()} == {
        "all": (2, 2),
        "payments": (2, 2),
        "ordered": (2, 2),
    }


def test_a_lost_delivery_is_named_with_where_it_last_stood() -> None:
    world = World()
    world.without("payments", 1)
    world.change(waiting={"payments": {id_of(1): "leased"}})
    problem = world.problem()
    assert (problem.id, problem.what) == (id_of(1), "never came to payments, and is no dead letter there")
    assert "payments: leased, came 0 times" in problem.where
    assert "all: unknown, came 1 times (200)" in problem.where


def test_a_delivery_that_was_never_answered_2xx_is_lost_whatever_the_gateway_says() -> None:
    world = World()
    world.without("all", 1)
    world.arrivals.append(came("all", 1, status=500))
    world.change(ends={"all": {id_of(1): "done"}})
    assert "never came to all" in world.problem().what


def test_a_dead_letter_is_accounted_for() -> None:
    world = World()
    world.without("payments", 1)
    world.change(dead={"payments": frozenset({id_of(1)})})
    assert world.reconcile().problems == []
    assert world.reconcile().targets["payments"].dead == 1


def test_an_event_that_nobody_answered_for_is_accounted_for_too() -> None:
    world = World()
    world.without("all", 4)
    assert (world.problem().id, "never came to all" in world.problem().what) == (id_of(4), True)


@pytest.mark.case(n=41)
def test_a_body_that_is_kept_otherwise_than_it_was_sent_is_a_problem() -> None:
    world = World()
    world.change(events={id_of(1): "digest-of-nothing", id_of(4): "digest-of-message-4"})
    world.change(duplicates={id_of(2): (id_of(1), "digest-of-nothing")})
    found = {(problem.id, problem.what) for problem in world.reconcile().problems}
    assert (id_of(1), "held with another body than was sent") in found
    assert (id_of(2), "held with another body than was sent") in found


def lose_the_event(world: World) -> None:
    world.change(events={id_of(4): "digest-of-message-4"}, duplicates={})
    world.requests.pop(1)
    world.arrivals = [arrival for arrival in world.arrivals if arrival.id != id_of(1)]


def lose_the_first_of_a_copy(world: World) -> None:
    world.change(duplicates={id_of(2): (id_of(9), "digest-of-message-1")})


def take_the_quarantined_for_a_copy(world: World) -> None:
    world.change(
        quarantined={},
        duplicates={**world.held.duplicates, id_of(3): (id_of(1), "digest-of-message-3")},
    )


def quarantine_what_is_whole(world: World) -> None:
    world.requests[2] = sent(3)


def admit_what_is_cut(world: World) -> None:
    world.requests[0] = sent(1, whole=False)


def give_up_at_a_sound_target(world: World) -> None:
    world.change(dead={"all": frozenset({id_of(1)})})


def keep_one_in_the_inbox(world: World) -> None:
    world.change(quarantined={}, inbox=frozenset({id_of(3)}))


def hold_what_nobody_sent(world: World) -> None:
    world.change(quarantined={**world.held.quarantined, id_of(9): "digest-of-nothing"})


def hold_what_was_refused(world: World) -> None:
    world.requests.append(sent(9, receipt="", status=401, expected=frozenset({401})))
    world.change(quarantined={**world.held.quarantined, id_of(9): "digest-of-message-9"})


def answer_500(world: World) -> None:
    world.requests.append(sent(9, receipt="", status=500))


def give_a_receipt_twice(world: World) -> None:
    world.requests.append(sent(1))


def deliver_what_was_not_asked_for(world: World) -> None:
    world.requests.append(sent(9, source="truust"))
    world.change(events={**world.held.events, id_of(9): "digest-of-message-9"})
    world.arrivals += [came(target, 9) for target in ("all", "payments", "ordered")]


def sign_badly(world: World) -> None:
    world.arrivals[0] = msgspec.structs.replace(world.arrivals[0], problem="no signature")


def overtake(world: World) -> None:
    world.without("ordered", 1)
    world.arrivals += [came("ordered", 1, status=500), came("ordered", 1, at=9.0)]


@pytest.mark.parametrize(
    ("harm", "id", "words"),
    [
        (lose_the_event, id_of(1), "the gateway knows nothing of it"),
        (lose_the_first_of_a_copy, id_of(2), "neither an event nor in quarantine"),
        (take_the_quarantined_for_a_copy, id_of(3), "taken for a copy"),
        (quarantine_what_is_whole, id_of(3), "whole, and in quarantine"),
        (admit_what_is_cut, id_of(1), "not whole, and an event"),
        (give_up_at_a_sound_target, id_of(1), "a dead letter of all, which gives nothing up"),
        (keep_one_in_the_inbox, id_of(3), "still in the inbox"),
        (hold_what_nobody_sent, id_of(9), "nobody sent it"),
        (hold_what_was_refused, id_of(9), "nobody sent it"),
        (answer_500, "message-9", "answered 500"),
        (give_a_receipt_twice, id_of(1), "two requests got this receipt"),
        (deliver_what_was_not_asked_for, id_of(9), "came to ordered, which has no part in it"),
        (sign_badly, id_of(1), "came to all: no signature"),
        (overtake, id_of(4), f"came to ordered before {id_of(1)}"),
    ],
)
def test_it_is_found(harm: Callable[[World], None], id: str, words: str) -> None:
    world = World()
    harm(world)
    problems = world.reconcile().problems
    assert id in {problem.id for problem in problems if words in problem.what}, problems


def test_a_repeat_that_became_an_event_of_its_own_is_found() -> None:
    world = World()
    world.change(events={**world.held.events, id_of(2): "digest-of-message-1"}, duplicates={})
    world.arrivals += [came(rule.target, 2) for rule in RULES]
    whats = [problem.what for problem in world.reconcile().problems]
    assert any("message-1 was sent again and is 2 events" in what for what in whats), whats


def test_an_unanswered_repeat_that_became_an_event_of_its_own_is_found_by_its_body() -> None:
    world = World()
    world.requests[1] = sent(2, "message-1", receipt="", status=None)
    world.change(events={**world.held.events, id_of(2): "digest-of-message-1"}, duplicates={})
    world.arrivals += [came(rule.target, 2) for rule in RULES]
    [problem] = world.reconcile().problems
    assert "1 messages with one body are 2 events" in problem.what


def test_repeats_are_counted_and_are_no_problem() -> None:
    world = World()
    world.arrivals += [came("all", 1, at=7.0), came("ordered", 1, at=8.0)]
    result = world.reconcile()
    assert result.problems == []
    assert (result.targets["all"].repeats, result.targets["ordered"].overtaken) == (1, 1)
