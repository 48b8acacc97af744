"""`headrace admit` and `headrace transaction`, and what the listings say of copies, on a real Redis."""

from pathlib import Path

import msgspec
import pytest

from shared.store.keys import Keys

from .filled import E_MAIL, PAID, Filled, with_redis
from .test_cli import CANARIES, SOURCES, TARGETS, as_json, failed, ok, run, write

KEYS = Keys()

TO_COME = {
    "type": "payment_received",
    "token": "tx-9",
    "paymentToken": "pay-9",
    "amount": 5,
    "currency": "XXQ",
}
"""What cannot be read until its currency is mended in place: bodies do not change, but tests may."""


class Held:
    """What an operator finds: a copy, one that differs, and two requests in quarantine."""

    async def tell(self, store: Filled) -> None:
        [self.first] = await store.receive(PAID | {"balance": 150000})
        await store.admit("ledger", "crm")
        [self.copy] = await store.receive(PAID | {"balance": 150000})
        [self.other] = await store.receive(PAID | {"balance": 1, "from": E_MAIL})
        [self.odd] = await store.receive(b"{")
        [self.fixed] = await store.receive(TO_COME)
        await store.admit("ledger", "crm")

    def mend(self, url: str) -> None:
        async def mend(store: Filled) -> None:
            body = msgspec.json.encode(TO_COME | {"currency": "GBP"})
            await store.client.redis.hset(KEYS.quarantined(self.fixed), "body", body)

        with_redis(url, mend)


@pytest.fixture
def held(redis_url: str) -> Held:
    held = Held()
    with_redis(redis_url, held.tell)
    held.mend(redis_url)
    return held


@pytest.fixture
def config(tmp_path: Path, redis_url: str) -> str:
    return write(tmp_path, redis_url, SOURCES + TARGETS)


def test_a_copy_that_differs_is_seen_in_every_view(config: str, held: Held) -> None:
    assert "2 copies suppressed, 1 with another body" in ok(config, "events", held.first)
    [event] = as_json(config, "events")["events"]
    assert (event["copies"], event["differing"], event["copy_of"]) == (2, 1, None)
    assert "1 with another" in ok(config, "events")
    duplicates = as_json(config, "events", "--duplicates")["duplicates"]
    assert {copy["id"]: copy["identical"] for copy in duplicates} == {held.copy: True, held.other: False}
    text = ok(config, "events", "--duplicates")
    assert "DIFFERS" in text
    assert "headrace admit RECEIPT" in text
    assert "another body" in ok(config, "events", held.other)


def test_admit_says_what_it_would_do_and_does_it(config: str, held: Held) -> None:
    dry = ok(config, "admit", "--all", "--dry-run")
    for line in (
        "Would send 2 requests through:\n",
        "  trustshare: 1\n",
        "  still not readable, not-json: 1\n",
    ):
        assert line in dry
    assert as_json(config, "quarantine")["count"] == 2
    done = ok(config, "admit", "--all", "--yes")
    assert "Admitted 1 event, 2 deliveries.\n" in done
    assert "Still not readable, not-json: 1\n" in done
    assert as_json(config, "quarantine")["count"] == 1
    assert as_json(config, "events", held.fixed)["deliveries"] == {"ledger": "waiting", "crm": "waiting"}
    again = run(config, "admit", "--all", "--source", "trustshare", "--code", "not-json", "--yes", "--json")
    assert msgspec.json.decode(again.stdout)["admitted"]["quarantined"] == {"not-json": 1}
    assert "Nothing to admit." in ok(config, "admit", "--all", "--source", "trustap")
    failed(run(config, "admit", "--all", "--code", "not-jsn"), 2, "'not-jsn'; there is: not-json (1)")
    failed(run(config, "admit", "--all", "--source", "trustip"), 2, "'trustip'; there are: trustap, ")


def test_admit_takes_a_suppressed_copy_by_its_receipt(config: str, held: Held) -> None:
    assert "Admitted 1 event, 2 deliveries.\n" in ok(config, "admit", held.copy, "--yes")
    shown = ok(config, "events", held.copy)
    assert f"{held.first}, admitted by hand" in shown
    result = run(config, "admit", held.copy, held.copy, "--yes")
    assert (result.exit_code, result.stderr) == (0, f"{held.copy} is an event already.\n")
    mixed = run(config, "admit", held.other, held.odd, held.first, "--yes", "--json")
    assert mixed.exit_code == 1
    assert "1 of 2 could not be admitted" in mixed.stderr
    assert msgspec.json.decode(mixed.stdout)["admitted"]["admitted"] == 1


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        ([], 2, "say what to admit"),
        (["evt_019a7c3b2e1f00c0ffee0", "--all"], 2, "say what to admit"),
        (["evt_019a7c3b2e1f00c0ffee0", "--source", "trustshare"], 2, "--all"),
        (["evt_019a7c3b2e1f00c0ffee0", "--yes"], 1, "is not here"),
        (["--all"], 2, "--yes"),
    ],
)
def test_an_admission_that_is_not_clear_is_refused(
    config: str, held: Held, args: list[str], code: int, word: str
) -> None:
    result = run(config, "admit", *args)
    assert result.exit_code == code
    assert word in result.stderr.splitlines()[-1]
    assert as_json(config, "quarantine")["count"] == 2


def test_what_waits_in_the_inbox_is_left_to_a_worker(config: str, redis_url: str) -> None:
    async def body(store: Filled) -> str:
        [id] = await store.receive(PAID)
        return id

    failed(run(config, "admit", with_redis(redis_url, body), "--yes"), 1, "a worker will admit it")


def test_admit_and_transaction_show_nothing_that_providers_said_of_people(config: str, held: Held) -> None:
    calls = [
        ["admit", "--all", "--dry-run"],
        ["admit", held.other, "--yes"],
        ["transaction", "trustshare", "tx-1"],
    ]
    for call in calls:
        for form in ([], ["--json"]):
            result = run(config, *call, *form)
            assert result.exit_code == 0
            for canary in CANARIES:
                assert canary not in result.output, call


# -- transaction


@pytest.fixture
def told(redis_url: str) -> None:
    async def tell(store: Filled) -> None:
        about = {"token": "tx-1", "currency": "GBP"}
        paid = about | {"paymentToken": "pay-1", "amount": 150000}
        for body in (
            about | {"type": "transaction_initiated", "estimated_value": 150000},
            paid | {"type": "payment_received", "balance": 150000},
            paid | {"type": "payment_received", "balance": 150000},
            paid | {"type": "payment_received", "balance": 7},
            paid | {"type": "payment_released", "balance": 0},
            about | {"type": "transaction_complete", "total_value": 150000},
            about | {"type": "dispute_raised"},
            about | {"type": "\x1b[31mnew"},
        ):
            await store.receive(body)
            await store.admit("ledger")

    with_redis(redis_url, tell)


def test_transaction_shows_what_happened_and_where_the_money_is(config: str, told: None) -> None:
    text = ok(config, "transaction", "trustshare", "tx-1")
    for line in (
        "status       completed (final)\n",
        "received     1,500.00 GBP\n",
        "paid out     1,500.00 GBP\n",
        "refunded     –\n",
        "held         0.00 GBP\n",
    ):
        assert line in text
    for word in ("dispute.raised", "late", "2 copies suppressed", "provider.unknown", "* when it came in"):
        assert word in text
    found = as_json(config, "transaction", "trustshare", "tx-1")
    timeline = found["timeline"]
    assert (found["provider"], found["transaction_id"]) == ("trustshare", "tx-1")
    assert [(step["event"]["type"], step["stands"], step["late"]) for step in timeline["steps"]] == [
        ("transaction.initiated", "open", False),
        ("payment.received", "funded", False),
        ("payout.released", "released", False),
        ("transaction.completed", "completed", False),
        ("dispute.raised", "completed", True),
        ("provider.unknown", "completed", False),
    ]
    assert timeline["held"] == {"amount_minor": 0, "currency": "GBP"}
    assert "\x1b" not in text


def test_a_transaction_that_is_not_here_is_one_line(config: str, told: None) -> None:
    failed(run(config, "transaction", "trustshare", "tx-\x1b2"), 1, "tx-\\x1b2", "retention")
    failed(run(config, "transaction", "stripe", "tx-1"), 2, "stripe")
