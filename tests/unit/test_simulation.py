"""The simulated providers: every body is one that its adapter reads as the event it is meant to be."""

from collections import Counter
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from shared.errors import CommandFailed, NoSuchSource, NotVerified
from shared.providers import ADAPTERS, simulations
from shared.providers.base import Adapter, InboundRequest, RawEvent, Verdict
from shared.providers.scenarios import Fresh, Scenario
from shared.simulation.plan import Chances, Plan, Planned
from shared.simulation.sending import written
from tests.unit.sources import NOW, source

SCENARIOS = [
    pytest.param(provider, scenario, id=f"{provider}/{scenario.name}")
    for provider, play in simulations().items()
    for scenario in play.scenarios
]


def verify(adapter: Adapter[Any], request: Planned) -> Verdict:
    path, body, headers = written(request, NOW)
    token = path.partition("/")[2] or None
    if path.partition("/")[0] != adapter.settings.name:
        raise NoSuchSource("no source has this path")
    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    return adapter.verify(InboundRequest(headers=given, path_token=token, body=body, received_at=NOW))


def plan(adapters: list[Adapter[Any]], count: int = 1, seed: int = 1, **chances: Any) -> Plan:
    play = simulations()[adapters[0].provider]
    return Plan(adapters, play.scenarios, play.write, Chances(**chances), count=count, random=Random(seed))


@pytest.mark.parametrize(("provider", "scenario"), SCENARIOS)
def test_each_request_is_verified_and_read_as_its_event(provider: str, scenario: Scenario) -> None:
    adapter = source(provider)
    messages = simulations()[provider].write(scenario, Fresh(Random(1)))
    assert len(messages) == len(scenario.steps)
    transactions = set()
    for message in messages:
        verdict = verify(adapter, Planned(adapter, message, "sound", copy=False))
        assert verdict is (Verdict.STORE if message.proven else Verdict.ANSWER_ONLY)
        event = adapter.normalise(RawEvent(message.body))
        own = message.event if adapter.names_own_types else "provider.unknown"
        assert event.type == adapter.mapping.get(message.event, own)
        assert event.money is None or event.money.amount_minor > 0
        assert adapter.in_turn or event.dedupe is None or event.dedupe.counts is None
        if event.type not in {"source.handshake", "provider.unknown"} and not adapter.names_own_types:
            assert event.subject
            transactions.add(event.transaction_id)
    assert len(transactions) <= 1, "a lifecycle is one transaction's"


@pytest.mark.parametrize("provider", sorted(set(simulations()) - {"standard-webhooks"}))
def test_the_scenarios_of_a_provider_play_every_row_of_its_mapping(provider: str) -> None:
    played = {step.event for scenario in simulations()[provider].scenarios for step in scenario.steps}
    assert played >= set(ADAPTERS[provider].mapping)


def test_every_provider_can_be_played_and_no_two_scenarios_share_a_name() -> None:
    assert set(simulations()) == set(ADAPTERS)
    for play in simulations().values():
        assert max(Counter(scenario.name for scenario in play.scenarios).values()) == 1


@pytest.mark.parametrize("provider", sorted(simulations()))
def test_no_two_lifecycles_share_an_event(provider: str) -> None:
    """But for what has no identity at all (a handshake) or is told apart by a count (a dispute)."""
    adapter = source(provider)
    seen: Counter[object] = Counter()
    for track in plan([adapter], count=3).tracks():
        for request in track:
            event = adapter.normalise(RawEvent(request.message.body, {"webhook-id": request.message.id}))
            if event.dedupe is None or event.dedupe.counts is None:
                seen[event.dedupe or request.message.body] += 1
    assert [key for key, count in seen.items() if count > 1] in ([], [b'{"type":"handshake"}'])


def test_the_same_seed_makes_the_same_choices_with_fresh_ids() -> None:
    def choices(seed: int) -> list[tuple[str, str, bool]]:
        tracks = plan([source("trustap")], count=3, seed=seed, duplicates=0.3, corrupt=0.2, shuffle=True)
        return [(r.message.event, r.fate, r.copy) for track in tracks.tracks() for r in track]

    def ids() -> set[str]:
        return {r.message.id for track in plan([source("trustap")]).tracks() for r in track}

    assert choices(7) == choices(7) != choices(8)
    assert not ids() & ids()


def test_a_copy_follows_its_original_and_is_the_same_request() -> None:
    for track in plan([source("trustshare")], count=20, duplicates=0.5).tracks():
        for before, after in pairwise(track):
            if after.copy:
                assert (after.message, after.fate) == (before.message, before.fate)
    shares = [r.copy for track in plan([source("trustshare")], 50, duplicates=0.2).tracks() for r in track]
    assert 0.15 < sum(shares) / (len(shares) - sum(shares)) < 0.25


@pytest.mark.parametrize("provider", sorted(simulations()))
def test_what_is_damaged_is_refused_or_unreadable(provider: str) -> None:
    adapter = source(provider)
    fates = Counter[str]()
    for track in plan([adapter], count=4, corrupt=1.0).tracks():
        for request in track:
            fates[request.fate] += 1
            if request.expected == {200}:
                assert verify(adapter, request) is Verdict.STORE
            else:
                with pytest.raises((NotVerified, NoSuchSource)):
                    verify(adapter, request)
    assert set(fates) == {"cut", "forged"}


def test_a_bound_source_is_given_its_own_notification_only() -> None:
    bound = source("truust", name="failed", event="Order Failed")
    free = source("truust")
    for track in plan([bound, free]).tracks():
        for request in track:
            assert (request.adapter is bound) == (request.message.event == "Order Failed")
    with pytest.raises(CommandFailed, match="no source takes 'Order Published'"):
        plan([bound])


def test_the_lifecycles_are_shared_out_over_the_provider_s_sources() -> None:
    first, second = source("trustap", name="a"), source("trustap", name="b")
    used = Counter(track[0].adapter.settings.name for track in plan([first, second], count=2).tracks())
    assert used == {
        "a": len(simulations()["trustap"].scenarios),
        "b": len(simulations()["trustap"].scenarios),
    }
