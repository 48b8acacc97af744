"""Admitting what was held back, on a real Redis: every entry in one place at every moment, each step twice."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from shared.config.check import parse_config
from shared.errors import StoreUnavailable
from shared.event.ids import stream_id
from shared.operations.readmissions import Held, ReadmissionPlan, Readmissions, Readmitted
from shared.routing.reading import POISON, Reader
from shared.store.admission import AdmissionOptions, Entry, Outcome, Place, Quarantine, admit
from shared.store.doorbell import DELIVER, Doorbell
from shared.store.inbox import Received
from shared.store.keys import GROUP, Keys, transaction
from shared.store.records import Records
from shared.store.transactions import Transactions
from shared.store.views import CopyView, EventView, QuarantineView
from shared.store.walk import Span
from tests.integration.store import RETENTION_MS, WORKER, Store, with_store

KEYS = Keys()

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ALL = Held(Span(0, 2**53))
PAYMENT = {
    "eventType": "PaymentStatusChanged",
    "merchantId": "m-1",
    "paymentId": "P-1",
    "created": "2026-03-02T11:30:00.9876543Z",
    "amount": 1049.10,
    "status": "FAILED",
}


def reader(
    currency: str = "GBP", *, sources: tuple[str, ...] = ("trustist", "trustshare"), **keys: str
) -> Reader:
    """The reader of a configuration; with JPY its Trustist source cannot read an amount of pence."""
    known = {
        "trustist": {"provider": "trustist", "path_tokens": ["token-0123456789"], "currency": currency},
        "trustshare": {"provider": "trustshare", "secrets": ["secret-0123456789"]},
    }
    target = {"name": "ledger", "url": "https://ledger.example.com/", "secret": SECRET}
    return Reader(
        parse_config(
            {"sources": [{"name": name} | known[name] | keys for name in sources], "targets": [target]}
        )
    )


class Desk:
    """Requests that come in and are admitted, and an operator who admits what was held back."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.redis: Any = store.redis
        self.records = Records(store.client)

    async def receive(
        self, *bodies: dict[str, Any] | bytes, by: Reader, source: str = "trustist"
    ) -> list[str]:
        """Take bodies through the inbox, as ingress and a worker do."""
        raw = [body if isinstance(body, bytes) else msgspec.json.encode(body) for body in bodies]
        ids = await self.store.put(*raw, source=source)
        while entries := await self.store.inbox.take(source, WORKER):
            batch = [by.read(entry) for entry in entries]
            await self.store.inbox.admit(source, batch, AdmissionOptions(by.window_ms(source), RETENTION_MS))
        return ids

    def readmissions(self, by: Reader) -> Readmissions:
        return Readmissions(self.store.client, by, retention_ms=RETENTION_MS)

    async def admit(self, held: Held, by: Reader) -> Readmitted:
        readmissions = self.readmissions(by)
        return await readmissions.run(held, await readmissions.plan(held), user="operator")

    async def places(self, id: str) -> list[str]:
        """Where a receipt stands: exactly one, whatever happens."""
        checks = {
            "event": self.redis.exists(KEYS.event(id)),
            "quarantined": self.redis.exists(KEYS.quarantined(id)),
            "duplicate": self.redis.exists(KEYS.duplicate(id)),
        }
        found = [name for name, check in checks.items() if await check]
        listed = {
            "event": [await self.redis.zscore(key, id) for key in (KEYS.open, KEYS.finished)],
            "quarantined": [await self.redis.zscore(KEYS.quarantine, id)],
            "duplicate": [await self.redis.zscore(KEYS.duplicates, id)],
        }
        for name, scores in listed.items():
            assert (name in found) == any(score is not None for score in scores)
        return found

    async def event(self, id: str) -> EventView:
        view = await self.records.find(id, [])
        assert isinstance(view, EventView)
        return view

    async def state(self) -> dict[bytes, Any]:
        """All that is stored, but for the audit, doorbells and flags."""
        found = {}
        for key in await self.redis.keys("hr:*"):
            if not key.startswith((b"hr:audit", b"hr:rung")):
                found[key] = await self.redis.dump(key)
        return found


def with_desk(url: str, test: Callable[[Desk], Awaitable[None]]) -> None:
    async def run(store: Store) -> None:
        await test(Desk(store))

    with_store(url, run)


def named(*ids: str) -> Held:
    return msgspec.structs.replace(ALL, receipts=ids)


# -- quarantine


def test_after_a_fix_what_was_quarantined_is_an_event_under_its_receipt(redis_url: str) -> None:
    async def check(desk: Desk) -> None:
        [id] = await desk.receive(PAYMENT, by=reader("JPY"))
        assert await desk.places(id) == ["quarantined"]
        plan = await desk.readmissions(reader()).plan(ALL)
        assert plan == ReadmissionPlan({"trustist": 1}, {}, {}, 0, 0)
        assert await desk.places(id) == ["quarantined"], "a plan changes nothing"
        done = await desk.admit(ALL, reader())
        assert done == Readmitted(1, 0, 0, {}, 0, {"ledger": 1})
        assert await desk.places(id) == ["event"]
        event = await desk.event(id)
        assert (event.id, event.type, event.deliveries) == (id, "payment.failed", {"ledger": "waiting"})
        assert await desk.redis.zscore(KEYS.due("ledger"), id) is not None
        assert await desk.redis.exists(KEYS.rung(Doorbell(DELIVER, "ledger").name))
        before = await desk.state()
        assert (await desk.admit(ALL, reader())).total == 0
        assert (await desk.admit(named(id), reader())).gone == 1
        assert await desk.state() == before, "said again, it changes nothing"

    with_desk(redis_url, check)


def test_what_is_still_unreadable_stays_with_the_new_reason(redis_url: str) -> None:
    async def check(desk: Desk) -> None:
        [id] = await desk.receive(PAYMENT, by=reader("JPY"))
        amount = await desk.records.find(id, [])
        assert isinstance(amount, QuarantineView)
        entry = Entry(stream_id(id), "trustist", b"", {})
        for _ in range(2):
            [outcome] = await admit(
                desk.store.client,
                Place.QUARANTINE,
                "trustist",
                [Quarantine(entry, "other", "another reason")],
                AdmissionOptions(1000, 1000),
            )
            assert (outcome.what, await desk.places(id)) == ("quarantined", ["quarantined"])
        now = await desk.records.find(id, [])
        assert isinstance(now, QuarantineView)
        assert (amount.code != now.code, now.code, now.detail) == (True, "other", "another reason")
        assert now.bytes == amount.bytes, "the body is kept"
        done = await desk.admit(ALL, reader("JPY"))
        assert (done.quarantined, done.admitted) == ({amount.code: 1}, 0)
        assert (await desk.admit(ALL, reader())).admitted == 1

    with_desk(redis_url, check)


def test_what_is_held_already_under_its_proper_key_becomes_a_duplicate(redis_url: str) -> None:
    """Two bodies of one event: while neither could be read, nobody knew that they are the same."""

    async def check(desk: Desk) -> None:
        first, second = await desk.receive(PAYMENT, PAYMENT | {"merchantId": "m-2"}, by=reader("JPY"))
        done = await desk.admit(ALL, reader())
        assert (done.admitted, done.duplicates, done.differing) == (1, 1, 1)
        assert (await desk.places(first), await desk.places(second)) == (["event"], ["duplicate"])
        copy = await desk.records.find(second, [])
        assert isinstance(copy, CopyView)
        assert (copy.of, copy.identical) == (first, False)
        event = await desk.event(first)
        assert (event.copies, event.differing) == (1, 1)
        [again] = await desk.receive(PAYMENT, by=reader())
        assert await desk.places(again) == ["duplicate"]

    with_desk(redis_url, check)


def test_copies_of_a_quarantined_request_are_counted_on_its_event(redis_url: str) -> None:
    async def check(desk: Desk) -> None:
        first, *copies = await desk.receive(PAYMENT, PAYMENT, PAYMENT, by=reader("JPY"))
        assert [await desk.places(id) for id in copies] == [["duplicate"]] * 2
        await desk.admit(ALL, reader())
        assert (await desk.event(first)).copies == 2

    with_desk(redis_url, check)


def test_what_has_no_key_of_its_own_does_not_take_itself_for_a_copy(redis_url: str) -> None:
    body = {key: value for key, value in PAYMENT.items() if key != "paymentId"}

    async def check(desk: Desk) -> None:
        [id] = await desk.receive(body, by=reader("JPY"))
        assert (await desk.admit(ALL, reader())).admitted == 1
        assert await desk.places(id) == ["event"]
        [copy] = await desk.receive(body, by=reader())
        assert await desk.places(copy) == ["duplicate"]

    with_desk(redis_url, check)


def test_all_can_be_narrowed_by_source_and_reason(redis_url: str) -> None:
    async def check(desk: Desk) -> None:
        [amount] = await desk.receive(PAYMENT, by=reader("JPY"))
        [not_json] = await desk.receive(b"{", by=reader("JPY"))
        [other] = await desk.receive(b"{{", by=reader(), source="trustshare")
        plan = desk.readmissions(reader()).plan
        assert (await plan(ALL)).unreadable == {"not-json": 2}
        by_source = await plan(msgspec.structs.replace(ALL, source="trustist"))
        assert (by_source.readable, by_source.unreadable) == ({"trustist": 1}, {"not-json": 1})
        by_code = await desk.admit(msgspec.structs.replace(ALL, code="not-json"), reader())
        assert (by_code.admitted, by_code.quarantined) == (0, {"not-json": 2})
        assert [await desk.places(id) for id in (amount, not_json, other)] == [["quarantined"]] * 3

    with_desk(redis_url, check)


def test_what_workers_died_of_is_left_out_unless_it_is_named(redis_url: str) -> None:
    async def check(desk: Desk) -> None:
        [id] = await desk.receive(PAYMENT, by=reader("JPY"))
        await desk.redis.hset(KEYS.quarantined(id), "code", POISON)
        plan = await desk.readmissions(reader()).plan(ALL)
        assert (plan.total, plan.poison) == (0, 1)
        assert (await desk.admit(ALL, reader())).total == 0
        assert (await desk.admit(msgspec.structs.replace(ALL, code=POISON), reader())).admitted == 1

    with_desk(redis_url, check)


def test_what_a_source_sent_that_is_not_configured_is_left_alone(redis_url: str) -> None:
    async def check(desk: Desk) -> None:
        [id] = await desk.receive(PAYMENT, by=reader("JPY"))
        without = reader(sources=("trustshare",))
        for held in (ALL, named(id)):
            assert (await desk.readmissions(without).plan(held)).unserved == {"trustist": 1}
            assert (await desk.admit(held, without)).total == 0
        assert await desk.places(id) == ["quarantined"]

    with_desk(redis_url, check)


def test_hundreds_are_admitted_in_batches_each_once(redis_url: str) -> None:
    async def check(desk: Desk) -> None:
        bodies = [PAYMENT | {"paymentId": f"P-{n}"} for n in range(330)]
        ids = await desk.receive(*bodies, by=reader("JPY"))
        assert await desk.redis.zcard(KEYS.quarantine) == 330
        told: list[int] = []
        readmissions = desk.readmissions(reader())
        done = await readmissions.run(ALL, await readmissions.plan(ALL), user="operator", done=told.append)
        assert (done.admitted, done.deliveries, told[-1]) == (330, {"ledger": 330}, 330)
        assert await desk.redis.zcard(KEYS.quarantine) == 0
        assert {id.decode() for id in await desk.redis.zrange(KEYS.due("ledger"), 0, -1)} == set(ids)

    with_desk(redis_url, check)


def test_two_operators_at_once_admit_each_once(redis_url: str) -> None:
    async def check(desk: Desk) -> None:
        bodies = [PAYMENT | {"paymentId": f"P-{n}"} for n in range(120)]
        await desk.receive(*bodies, by=reader("JPY"))
        both = await asyncio.gather(desk.admit(ALL, reader()), desk.admit(ALL, reader()))
        assert sum(done.admitted for done in both) == 120
        assert sum(done.duplicates for done in both) == 0
        assert await desk.redis.zcard(KEYS.due("ledger")) == 120

    with_desk(redis_url, check)


# -- suppressed copies


def test_a_copy_admitted_by_hand_is_an_event_of_its_own(redis_url: str) -> None:
    async def check(desk: Desk) -> None:
        first, copy = await desk.receive(PAYMENT, PAYMENT, by=reader())
        assert (await desk.event(first)).copies == 1
        done = await desk.admit(named(copy), reader())
        assert done == Readmitted(1, 0, 0, {}, 0, {"ledger": 1})
        assert await desk.places(copy) == ["event"]
        event = await desk.event(copy)
        assert (event.copy_of, event.type, event.transaction_id) == (first, "payment.failed", "P-1")
        assert (await desk.event(first)).copies == 0
        before = await desk.state()
        assert (await desk.admit(named(copy), reader())).gone == 1
        assert await desk.state() == before, "said again, it changes nothing"
        payload = await desk.records.payload(event)
        assert not isinstance(payload, bytes)
        assert payload is not None
        assert msgspec.json.decode(payload.body) == PAYMENT, "its body was its first's"
        [third] = await desk.receive(PAYMENT, by=reader())
        assert await desk.places(third) == ["duplicate"]

    with_desk(redis_url, check)


def test_a_copy_with_another_body_is_admitted_with_its_own(redis_url: str) -> None:
    other = PAYMENT | {"merchantId": "m-2"}

    async def check(desk: Desk) -> None:
        first, copy = await desk.receive(PAYMENT, other, by=reader())
        assert (await desk.event(first)).differing == 1
        assert (await desk.admit(named(copy), reader())).admitted == 1
        assert (await desk.event(first)).differing == 0
        assert await desk.redis.hget(KEYS.event(copy), "body") == msgspec.json.encode(other)

    with_desk(redis_url, check)


def test_a_copy_that_cannot_be_read_stays_a_copy(redis_url: str) -> None:
    async def check(desk: Desk) -> None:
        first, copy = await desk.receive(PAYMENT, PAYMENT, by=reader("JPY"))
        done = await desk.admit(named(copy), reader("JPY"))
        assert (done.admitted, sum(done.quarantined.values())) == (0, 1)
        assert (await desk.places(first), await desk.places(copy)) == (["quarantined"], ["duplicate"])
        assert (await desk.admit(named(copy), reader())).admitted == 1, "before its first"
        assert (await desk.places(first), await desk.places(copy)) == (["quarantined"], ["event"])

    with_desk(redis_url, check)


def test_a_copy_of_what_became_a_copy_still_finds_its_body(redis_url: str) -> None:
    async def check(desk: Desk) -> None:
        one, two, copy_of_two = await desk.receive(
            PAYMENT, PAYMENT | {"merchantId": "m-2"}, PAYMENT | {"merchantId": "m-2"}, by=reader("JPY")
        )
        await desk.admit(ALL, reader())
        assert [await desk.places(id) for id in (one, two, copy_of_two)] == [
            ["event"], ["duplicate"], ["duplicate"]
        ]  # fmt: skip
        assert (await desk.event(one)).copies == 2
        assert (await desk.admit(named(copy_of_two), reader())).admitted == 1
        assert ((await desk.event(one)).copies, (await desk.event(copy_of_two)).copy_of) == (1, one)
        assert b"m-2" in await desk.redis.hget(KEYS.event(copy_of_two), "body")

    with_desk(redis_url, check)


def test_a_copy_whose_body_went_with_its_first_cannot_be_admitted_and_stays(redis_url: str) -> None:
    async def check(desk: Desk) -> None:
        first, copy = await desk.receive(PAYMENT, PAYMENT, by=reader())
        await desk.redis.delete(KEYS.event(first))
        assert (await desk.readmissions(reader()).plan(named(copy))).gone == 1
        assert (await desk.admit(named(copy), reader())).total == 0
        assert await desk.places(copy) == ["duplicate"]
        [late] = await desk.receive(PAYMENT, by=reader())
        view = await desk.records.find(late, [])
        assert isinstance(view, CopyView)
        assert view.identical is None, "the first is gone: nobody can tell"
        assert (await desk.admit(named(late), reader())).admitted == 1, "but it kept its body"

    with_desk(redis_url, check)


def test_an_admitted_dispute_lets_its_own_resolution_pass(redis_url: str) -> None:
    raised, resolved = ({"type": f"dispute_{what}", "token": "t"} for what in ("raised", "resolved"))

    async def check(desk: Desk) -> None:
        async def come(body: dict[str, Any]) -> tuple[str, list[str]]:
            [id] = await desk.receive(body, by=reader(), source="trustshare")
            return id, await desk.places(id)

        await come(raised)
        second, places = await come(raised)
        assert places == ["duplicate"]
        assert (await come(resolved))[1] == ["event"]
        assert (await desk.admit(named(second), reader())).admitted == 1
        assert (await come(resolved))[1] == ["event"]

    with_desk(redis_url, check)


def test_a_copy_keeps_the_headers_that_its_adapter_needs(redis_url: str) -> None:
    async def check(desk: Desk) -> None:
        raw = msgspec.json.encode(PAYMENT)
        kept = {"content-type": "application/vnd.api+json"}
        await desk.store.inbox.put([Received("trustist", raw, kept)] * 2)
        by = reader()
        batch = [by.read(entry) for entry in await desk.store.inbox.take("trustist", WORKER)]
        outcomes: list[Outcome] = await desk.store.inbox.admit(
            "trustist", batch, AdmissionOptions(1000, RETENTION_MS)
        )
        copy = outcomes[1].entry.id
        assert (await desk.admit(named(copy), by)).admitted == 1
        assert await desk.redis.hget(KEYS.event(copy), "type") == b"application/vnd.api+json"

    with_desk(redis_url, check)


# -- what it leaves behind


def test_admitting_leaves_an_audit_entry(redis_url: str) -> None:
    async def check(desk: Desk) -> None:
        [id] = await desk.receive(PAYMENT, by=reader("JPY"))
        await desk.admit(named(id), reader())
        [(_, entry)] = await desk.redis.xrange(KEYS.audit)
        assert (entry[b"action"], entry[b"user"]) == (b"admit", b"operator")
        selected = msgspec.json.decode(entry[b"selected"])
        assert (selected["receipts"], selected["receipts_in_all"]) == ([id], 1)
        assert msgspec.json.decode(entry[b"requests"]) == {"trustist": 1}

    with_desk(redis_url, check)


@pytest.mark.parametrize("place", ["nowhere", ""])
def test_a_call_that_is_wrong_writes_nothing(redis_url: str, place: str) -> None:
    async def check(desk: Desk) -> None:
        [id] = await desk.receive(PAYMENT, by=reader("JPY"))
        before = await desk.state()
        good = [stream_id(id), id, "k", "", "", "d", "event", "ledger", "{}", "{}", "", "", ""]
        head: list[Any] = ["trustist", 1000, 1000, 1000]
        inbox = [KEYS.inbox("trustist"), KEYS.alone("trustist"), KEYS.turn("trustist")]
        calls: list[tuple[str, list[Any]]] = [
            ("readmit", [*head, place, 0, *good]),
            ("readmit", [*head, "quarantine", 0, *good, "x"]),
            ("readmit", [*head, "quarantine", 0, *good, *["x"] * 13]),
            ("readmit", [*head, "duplicates", 1, *good]),
            ("readmit", [*head, "quarantine", *good]),
            ("admit", [*head, GROUP, "", 1000, *good, "x"]),
            ("admit", ["trustist", "", 1000, 1000, GROUP, "", 1000, *good]),
        ]
        for script, args in calls:
            with pytest.raises(StoreUnavailable, match="admit: wrong"):
                await desk.store.client.run(script, inbox if script == "admit" else [], args)
        assert await desk.state() == before

    with_desk(redis_url, check)


def test_a_source_may_have_a_window_of_its_own(redis_url: str) -> None:
    async def check(desk: Desk) -> None:
        await desk.receive(PAYMENT, by=reader(window="2h"))
        [key] = await desk.redis.keys("hr:dedupe:trustist:*")
        assert 7_200_000 < await desk.redis.pttl(key) <= 9_600_000, "the window, and up to a third of it"
        assert reader().window_ms("trustist") == 7 * 86_400_000, "dedupe.window"

    with_desk(redis_url, check)


# -- the index of transactions


def test_events_are_indexed_by_their_transaction_until_retention(redis_url: str) -> None:
    async def check(desk: Desk) -> None:
        transactions = Transactions(desk.store.client)
        failed, copy = await desk.receive(PAYMENT, PAYMENT, by=reader())
        [paid] = await desk.receive(PAYMENT | {"status": "COMPLETE"}, by=reader())
        [other] = await desk.receive(PAYMENT | {"paymentId": "P-2"}, by=reader("JPY"))
        found = await transactions.events("trustist", "P-1")
        assert [(event.id, event.type, event.copies) for event in found] == [
            (failed, "payment.failed", 1), (paid, "payment.completed", 0)
        ]  # fmt: skip
        assert await transactions.events("trustist", "P-2") == [], "in quarantine"
        assert await transactions.events("truust", "P-1") == []
        await desk.admit(ALL, reader())
        assert [event.id for event in await transactions.events("trustist", "P-2")] == [other]
        await desk.admit(named(copy), reader())
        again = await transactions.events("trustist", "P-1")
        assert [(event.id, event.copy_of) for event in again] == [
            (failed, None), (copy, failed), (paid, None)
        ]  # fmt: skip
        assert len(await desk.redis.keys("hr:transaction:*")) == 2

        for id in (failed, copy, paid, other):
            await desk.redis.zrem(KEYS.open, id)
            await desk.redis.zadd(KEYS.finished, {id: 1})
        for _ in range(2):
            await desk.store.upkeep.retain(
                ["ledger"], events_ms=RETENTION_MS, dead_letters_ms=RETENTION_MS, under_pressure=False
            )
            assert await desk.redis.keys("hr:transaction:*") == []
            assert await desk.redis.keys("hr:event:*") == []

    with_desk(redis_url, check)


def test_two_transactions_that_share_an_index_are_told_apart(redis_url: str) -> None:
    async def check(desk: Desk) -> None:
        [one] = await desk.receive(PAYMENT, by=reader())
        [other] = await desk.receive(PAYMENT | {"paymentId": "P-2"}, by=reader())
        index = KEYS.transaction_index(transaction("trustist", "P-1"))
        await desk.redis.zadd(index, {other: 1})
        assert [event.id for event in await Transactions(desk.store.client).events("trustist", "P-1")] == [
            one
        ]

    with_desk(redis_url, check)


def test_an_index_of_a_few_events_is_kept_compact(redis_url: str) -> None:
    async def check(desk: Desk) -> None:
        await desk.receive(PAYMENT, PAYMENT | {"status": "COMPLETE"}, by=reader())
        [key] = await desk.redis.keys("hr:transaction:*")
        assert await desk.redis.object("encoding", key) in (b"ziplist", b"listpack")
        assert await desk.redis.memory_usage(key) < 300

    with_desk(redis_url, check)
