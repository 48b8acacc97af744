"""Shares of memory: what is measured, what moves to the disk, and that it is one with what stays in Redis."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from structlog.testing import capture_logs

from shared.archive.dead_letters import DeadLetterFile
from shared.archive.schema import VERSION
from shared.archive.search import Search
from shared.config.check import parse_config
from shared.delivery.verdicts import GivenUp, Reason
from shared.errors import ArchiveUnavailable
from shared.event.timeline import Happened
from shared.operations.dead_letters import Chosen, DeadLetters
from shared.operations.events import Events
from shared.operations.moves import Moves, new_move
from shared.operations.quarantine import Chosen as ChosenRequests
from shared.operations.quarantine import QuarantineWork
from shared.operations.replays import Replays, Selection
from shared.store.clock import now_ms
from shared.store.due import End
from shared.store.keys import Keys
from shared.store.lanes import Lanes
from shared.store.letters import Letters, record_of
from shared.store.shares import Shares, Verdict
from shared.store.views import EventView
from shared.store.walk import Span
from tests.integration.filled import Filled, with_redis
from tests.waiting import wait_for
from workers.shares import ShareKeeper

KEYS = Keys()

T = TypeVar("T")

ALWAYS = Span(0, 2**53)
SHARE_SPENT = Reason(GivenUp.SHARE, "took more than 25 %")
SOURCES = ["trustshare"]


class Stage:
    """A filled store, a file, and what moves between the two."""

    def __init__(self, filled: Filled, path: Path) -> None:
        self.filled = filled
        self.client = filled.client
        self.redis: Any = filled.client.redis
        url = f"sqlite:///{path}/dead-letters.db"
        self.file = DeadLetterFile(url)
        self.letters = Letters(self.client)
        self.moves = Moves(self.client, url)

    @property
    def dead(self) -> DeadLetters:
        return DeadLetters(self.client, self.file)

    async def listed(self, target: str = "down") -> list[str]:
        """The ids of a target's dead letters, as they are listed; each counted once."""
        found = await self.dead.listing([target], ALWAYS, 1000)
        assert (await self.dead.counts([target]))[target] == len(found)
        assert len({letter.id for letter in found}) == len(found)
        return [letter.id for letter in found]

    async def dead_letters(self, count: int, *targets: str) -> list[str]:
        """Events that died for the target `down`."""
        ids = await self.filled.events(count, *(targets or ("down",)))
        assert await self.filled.settle("down", End.DEAD) == count
        return ids

    async def finish(self) -> int:
        """Let retention remove what is finished. Returns how many events are left."""
        for id in await self.redis.zrange(KEYS.finished, 0, -1):
            await self.client.run("retain", [], [1000, "+inf", 0])
            assert not await self.redis.exists(KEYS.event(id.decode()))
        return int(await self.redis.zcard(KEYS.open))

    async def replay(self, target: str = "down") -> dict[str, int]:
        replays = Replays(self.client, [target, "works"], self.file)
        selection = Selection(span=ALWAYS, dead_letters_of=target)
        plan = await replays.plan(selection)
        replayed = await replays.run(selection, plan, user="me")
        assert replayed.deliveries == plan.deliveries
        return replayed.deliveries


def staged(url: str, path: Path, body: Callable[[Stage], Awaitable[T]]) -> T:
    async def run(filled: Filled) -> T:
        return await body(Stage(filled, path))

    return with_redis(url, run)


@pytest.mark.case(n=47)
def test_dead_letters_that_moved_are_listed_shown_and_replayed_as_before(
    redis_url: str, tmp_path: Path
) -> None:
    async def play(stage: Stage) -> None:
        ids = await stage.dead_letters(3)
        before = await stage.dead.listing(["down"], ALWAYS, 10)
        shown = await Events(stage.client, None).find(ids[0], SOURCES)
        tried = await Events(stage.client, None).deliveries(ids[0], answers=True)
        assert isinstance(shown, EventView)
        payload = await Events(stage.client, None).payload(shown)
        assert (await stage.moves.dead_letters("down", hold=False)).letters == 3
        events = Events(stage.client, stage.file)
        for left in (3, 0):  # while Redis has the record still, and when it is gone
            after = await stage.dead.listing(["down"], ALWAYS, 10)
            assert [msgspec.structs.replace(each, on_disk=False) for each in after] == before
            assert all(each.on_disk for each in after)
            assert await events.find(ids[0], SOURCES) == shown
            assert await events.deliveries(ids[0], answers=True) == tried
            assert await events.payload(shown) == payload
            for state in (None, "dead"):
                assert [view.id for view in await events.events(Search(state=state), 10)] == ids[::-1]
            assert await stage.redis.zcard(KEYS.finished) == left
            assert await stage.finish() == 0
        assert await stage.redis.keys("hr:event:*") == []
        assert await stage.replay() == {"down": 3}
        assert await stage.listed() == []
        assert await stage.replay() == {}
        again = await events.find(ids[0], SOURCES)
        assert isinstance(again, EventView)
        assert again.deliveries == {"down": "waiting"}
        assert [len(view.attempts) for view in await events.deliveries(ids[0]) or ()] == [1]
        assert await stage.filled.settle("down", End.DONE) == 3
        assert (await stage.redis.zcard(KEYS.open), await stage.redis.zcard(KEYS.finished)) == (0, 3)

    staged(redis_url, tmp_path, play)


@pytest.mark.case(n=47)
def test_an_event_stays_for_its_other_targets_and_goes_once_they_are_done(
    redis_url: str, tmp_path: Path
) -> None:
    async def play(stage: Stage) -> None:
        [id] = await stage.dead_letters(1, "down", "works")
        await stage.moves.dead_letters("down", hold=False)
        assert await stage.finish() == 1
        assert await stage.redis.hget(KEYS.event(id), "open") == b"1"
        view = await Events(stage.client, stage.file).find(id, SOURCES)
        assert isinstance(view, EventView)
        assert view.deliveries == {"down": "dead", "works": "waiting"}
        await stage.filled.settle("works", End.DONE)
        assert await stage.finish() == 0
        view = await Events(stage.client, stage.file).find(id, SOURCES)
        assert isinstance(view, EventView)
        assert view.deliveries == {"down": "dead", "works": "ended"}, "it waited when the letter moved"
        # Sent to another target, it stays the first one's dead letter.
        replays = Replays(stage.client, ["down", "works"], stage.file)
        selection = Selection(span=ALWAYS, dead_letters_of="down", to="works")
        assert (await replays.run(selection, await replays.plan(selection), user="me")).deliveries == {
            "works": 1
        }
        assert await stage.listed() == [id]
        assert await stage.filled.settle("works", End.DONE) == 1
        assert await stage.finish() == 0

    staged(redis_url, tmp_path, play)


@pytest.mark.case(n=47)
def test_of_an_event_that_left_redis_a_listing_says_how_a_delivery_ended_only_if_that_is_known(
    redis_url: str, tmp_path: Path
) -> None:
    """`dying` is a dead letter as that of `down` moves, and then it is replayed, or discarded on the disk."""

    async def play(stage: Stage) -> None:
        events = Events(stage.client, stage.file)

        async def states(id: str) -> dict[str, str]:
            view = await events.find(id, SOURCES)
            assert isinstance(view, EventView)
            assert {each.target: each.state for each in await events.deliveries(id) or ()} == view.deliveries
            return view.deliveries

        ids = await stage.filled.events(2, "down", "dying", "works")
        await stage.filled.settle("works", End.DONE)
        await stage.filled.settle("dying", End.DEAD)
        await stage.filled.settle("down", End.DEAD)
        await stage.moves.dead_letters("down", hold=False)
        assert await states(ids[0]) == {"down": "dead", "dying": "dead", "works": "done"}
        replays = Replays(stage.client, ["dying"], stage.file)
        selection = Selection(span=ALWAYS, events=(ids[0],), to="dying")
        await replays.run(selection, await replays.plan(selection), user="me")
        await stage.filled.settle("dying", End.DONE)
        await stage.moves.dead_letters("dying", hold=False)
        assert await stage.finish() == 0
        known = {"down": "dead", "works": "done"}
        assert await states(ids[0]) == known | {"dying": "ended"}, "it was delivered: not `expired`"
        assert await states(ids[1]) == known | {"dying": "dead"}
        await stage.dead.discard(
            Chosen(("dying",), ALWAYS, events=(ids[1],)), {}, user="me", done=lambda _: None
        )
        assert await states(ids[1]) == known | {"dying": "ended"}, "it was discarded: not `done`"
        # And so it is if a replay brings the record back.
        assert await stage.replay() == {"down": 2}
        assert await states(ids[1]) == {"down": "waiting", "dying": "ended", "works": "done"}
        assert await stage.filled.settle("down", End.DONE) == 2
        assert await stage.finish() == 0

    staged(redis_url, tmp_path, play)


@pytest.mark.case(n=47)
def test_a_transaction_tells_of_events_of_which_only_dead_letters_on_disk_are_left(
    redis_url: str, tmp_path: Path
) -> None:
    async def play(stage: Stage) -> None:
        payment = {"type": "payment_received", "token": "t"}
        await stage.filled.receive(*(payment | {"paymentToken": f"p{n}"} for n in range(3)))
        await stage.filled.receive({"type": "payment_received", "token": "other", "paymentToken": "p"})
        await stage.filled.admit("down", "works")
        await stage.filled.settle("works", End.DONE)
        await stage.filled.settle("down", End.DEAD)
        events = Events(stage.client, stage.file)

        async def timeline() -> list[Happened]:
            found = await events.transaction("trustshare", "t")
            return sorted(found, key=lambda event: event.id)

        before = await timeline()
        assert [event.payment_id for event in before] == ["p0", "p1", "p2"]
        await stage.moves.dead_letters("down", hold=False)
        assert await timeline() == before, "each once, while Redis has the record"
        assert await stage.finish() == 0
        assert await stage.redis.keys("hr:transaction:*") == []
        assert await timeline() == before, "and when it is gone"
        assert await stage.replay() == {"down": 4}
        assert [event.id for event in await timeline()] == [event.id for event in before], (
            "and when it is back"
        )

    staged(redis_url, tmp_path, play)


@pytest.mark.case(n=47)
def test_what_waits_longest_becomes_dead_letters_on_the_disk_and_the_reason_names_the_rule(
    redis_url: str, tmp_path: Path
) -> None:
    async def play(stage: Stage) -> None:
        ids = await stage.filled.events(5, "down")
        assert len((await stage.filled.claim("down", 1)).entries) == 1
        moved = await stage.moves.what_waits("down", SHARE_SPENT, hold=False)
        assert moved.letters == 4, "what a worker has in hand is left to it"
        assert await stage.listed() == ids[:0:-1]
        [letter, *_] = await stage.dead.listing(["down"], ALWAYS, 10)
        assert (letter.failed, letter.last, letter.why.text) == (0, None, SHARE_SPENT.text)
        assert await stage.redis.zcard(KEYS.due("down")) == 0
        assert await stage.finish() == 1
        assert await stage.replay() == {"down": 4}
        assert await stage.redis.zcard(KEYS.due("down")) == 4

    staged(redis_url, tmp_path, play)


@pytest.mark.case(n=47)
@pytest.mark.parametrize("broken_off", ["after the row", "after the script", "replay before", "replay after"])
def test_a_move_that_was_broken_off_leaves_each_letter_shown_once(
    redis_url: str, tmp_path: Path, broken_off: str
) -> None:
    """Killed between any two of its steps; then a listing, a tidying, and a replay."""

    async def play(stage: Stage) -> None:
        ids = await stage.dead_letters(2)
        listed = ids[::-1]
        move = new_move(1)
        if broken_off.startswith("after"):
            letters = await stage.letters.dead("down")
            stage.file.add(letters, move)
            if broken_off == "after the script":
                await stage.letters.take_out("down", letters, waited=False, hold=False)
        else:
            await stage.moves.dead_letters("down", hold=False)
            await stage.finish()
            letters = stage.file.leave("down", ids, move)
            if broken_off == "replay after":
                await stage.letters.put_back_and_replay(
                    "down", ids, [record_of([letter]) for letter in letters]
                )
                listed = []
        for _ in range(2):
            assert await stage.listed() == listed
            if broken_off == "after the script":
                await stage.finish()
            assert await stage.listed() == listed
            await stage.moves.tidy()
        assert stage.file.moving() == []
        await stage.moves.dead_letters("down", hold=False)
        assert await stage.listed() == listed
        assert sum((await stage.replay()).values()) == len(listed)
        assert await stage.redis.zcard(KEYS.due("down")) == 2
        assert await stage.listed() == []

    staged(redis_url, tmp_path, play)


@pytest.mark.case(n=47)
def test_a_letter_that_was_replayed_while_it_moved_is_not_on_the_disk(redis_url: str, tmp_path: Path) -> None:
    async def play(stage: Stage) -> None:
        [id] = await stage.dead_letters(1)
        letters = await stage.letters.dead("down")
        await stage.replay()
        await stage.filled.settle("down", End.DEAD)  # and died again: another letter than was read
        stage.file.add(letters, "1")
        assert await stage.letters.take_out("down", letters, waited=False, hold=False) == ["changed"]
        stage.file.drop([letters[0].key], "1")
        assert await stage.listed() == [id]
        assert stage.file.counts() == {}

    staged(redis_url, tmp_path, play)


@pytest.mark.case(n=47)
def test_discarding_ends_dead_letters_wherever_they_are_and_is_audited(
    redis_url: str, tmp_path: Path
) -> None:
    async def play(stage: Stage) -> None:
        first = await stage.dead_letters(2)
        await stage.moves.dead_letters("down", hold=False)
        await stage.finish()
        second = await stage.filled.events(2, "down", source="other")
        await stage.filled.settle("down", End.DEAD)
        every = Chosen(("down",), ALWAYS)
        assert await stage.dead.count(every) == {"down": 4}
        assert await stage.dead.count(msgspec.structs.replace(every, reason="http 500")) == {"down": 4}
        assert await stage.dead.count(msgspec.structs.replace(every, reason="http 404")) == {}
        assert await stage.dead.count(msgspec.structs.replace(every, type="payout.*")) == {}
        some = msgspec.structs.replace(every, events=(first[0], second[0]))
        for expected in ({"down": 2}, {}):
            assert await stage.dead.discard(some, {}, user="me", done=lambda _: None) == expected
        assert await stage.listed() == [second[1], first[1]]
        assert await stage.dead.discard(every, {}, user="me", done=lambda _: None) == {"down": 2}
        assert await stage.listed() == []
        assert await stage.redis.hget(KEYS.event(second[0]), "end:down") == b"discarded"
        assert await stage.finish() == 0
        notes = await stage.redis.xrange(KEYS.audit)
        assert [note[b"action"] for _, note in notes] == [b"discard dead letters"] * 3

    staged(redis_url, tmp_path, play)


@pytest.mark.case(n=47)
def test_discarding_a_letter_on_the_disk_leaves_its_event_open_for_other_targets(
    redis_url: str, tmp_path: Path
) -> None:
    async def play(stage: Stage) -> None:
        [id] = await stage.dead_letters(1, "down", "works")
        await stage.moves.dead_letters("down", hold=False)
        await stage.dead.discard(Chosen(("down",), ALWAYS), {}, user="me", done=lambda _: None)
        assert await stage.redis.hget(KEYS.event(id), "end:down") == b"discarded"
        assert await stage.finish() == 1, "the other delivery waits"

    staged(redis_url, tmp_path, play)


@pytest.mark.case(n=47)
def test_what_a_held_dead_letter_holds_stays_in_order_on_the_disk_and_goes_on_once_it_is_discarded(
    redis_url: str, tmp_path: Path
) -> None:
    async def play(stage: Stage) -> None:
        receipts = await stage.filled.receive(
            *({"type": "payment_received", "token": "t", "paymentToken": f"p{n}"} for n in range(3))
        )
        await stage.filled.admit_in_order("down")
        assert await stage.filled.settle("down", End.DEAD, hold=True) == 1
        await stage.moves.dead_letters("down", hold=True)
        [lane] = await stage.redis.keys("hr:lane:down:*")
        assert await stage.redis.zcard(KEYS.due("down")) == 0, (
            "the dead letter holds the rest, on the disk too"
        )
        await stage.finish()
        await stage.dead.discard(Chosen(("down",), ALWAYS), {}, user="me", done=lambda _: None)
        assert [id.decode() for id in await stage.redis.zrange(KEYS.due("down"), 0, -1)] == [receipts[1]]
        assert await stage.redis.llen(lane) == 2
        # And what is held leaves, too, where there is no room for it.
        moved = await stage.moves.what_waits("down", SHARE_SPENT, hold=True)
        assert (moved.letters, await stage.redis.llen(lane)) == (2, 2)
        await stage.finish()
        assert await stage.replay() == {"down": 2}
        assert [id.decode() for id in await stage.redis.zrange(KEYS.due("down"), 0, -1)] == [receipts[1]]

    staged(redis_url, tmp_path, play)


@pytest.mark.case(n=47)
@pytest.mark.parametrize("on_disk", [False, True])
def test_what_a_dead_letter_holds_goes_on_once_it_is_discarded_while_redis_has_its_record(
    redis_url: str, tmp_path: Path, on_disk: bool
) -> None:
    async def play(stage: Stage) -> None:
        receipts = await stage.filled.receive(
            *({"type": "payment_received", "token": "t", "paymentToken": f"p{n}"} for n in range(2))
        )
        await stage.filled.admit_in_order("down")
        assert await stage.filled.settle("down", End.DEAD, hold=True) == 1
        if on_disk:
            await stage.moves.dead_letters("down", hold=True)
        await stage.dead.discard(Chosen(("down",), ALWAYS), {}, user="me", done=lambda _: None)
        assert [id.decode() for id in await stage.redis.zrange(KEYS.due("down"), 0, -1)] == [receipts[1]]

    staged(redis_url, tmp_path, play)


@pytest.mark.case(n=47)
def test_what_waits_behind_several_dead_letters_on_the_disk_goes_on_once_it_is_let_go(
    redis_url: str, tmp_path: Path
) -> None:
    async def play(stage: Stage) -> None:
        async def receive(*numbers: int) -> list[str]:
            payment = {"type": "payment_received", "token": "t"}
            receipts = await stage.filled.receive(*(payment | {"paymentToken": f"p{n}"} for n in numbers))
            await stage.filled.admit_in_order("down")
            return receipts

        await receive(0, 1)
        assert await stage.filled.settle("down", End.DEAD, hold=True) == 1
        assert (await stage.moves.dead_letters("down", hold=True)).letters == 1
        assert (await stage.moves.what_waits("down", SHARE_SPENT, hold=True)).letters == 1
        [last] = await receive(2)
        assert await stage.redis.zcard(KEYS.due("down")) == 0
        assert await Lanes(stage.client).let_go("down") == 2
        assert [id.decode() for id in await stage.redis.zrange(KEYS.due("down"), 0, -1)] == [last]

    staged(redis_url, tmp_path, play)


@pytest.mark.case(n=47)
def test_what_expired_on_the_disk_is_removed(redis_url: str, tmp_path: Path) -> None:
    async def play(stage: Stage) -> None:
        await stage.dead_letters(2)
        await stage.moves.dead_letters("down", hold=False)
        now = await now_ms(stage.client)
        assert await stage.moves.expire(now - 3_600_000) == 0
        assert await stage.moves.expire(now + 3_600_000) == 2
        assert await stage.listed() == []

    staged(redis_url, tmp_path, play)


@pytest.mark.case(n=47)
def test_quarantine_is_discarded_by_source_reason_and_id_and_only_once(
    redis_url: str, tmp_path: Path
) -> None:
    async def play(stage: Stage) -> None:
        ids = await stage.filled.receive(b"1 no JSON", b"2 no JSON")
        others = await stage.filled.receive(b"3 no JSON", source="other")
        await stage.filled.admit()
        await stage.filled.admit(source="other")
        work = QuarantineWork(stage.client)

        async def discard(**chosen: Any) -> int:
            return await work.discard(ChosenRequests(ALWAYS, **chosen), {}, user="me", done=lambda _: None)

        assert await work.count(ChosenRequests(ALWAYS)) == {"not-json": 3}
        assert await discard(code="other") == 0
        assert await discard(receipts=(ids[0],)) == 1
        assert await discard(receipts=(ids[0],)) == 0
        assert await discard(source="other", code="not-json") == 1
        assert [id.decode() for id in await stage.redis.zrange(KEYS.quarantine, 0, -1)] == [ids[1]]
        assert not await stage.redis.exists(KEYS.quarantined(others[0]))

    staged(redis_url, tmp_path, play)


@pytest.mark.case(n=47)
def test_what_targets_and_sources_take_is_estimated_and_the_verdict_is_told(
    redis_url: str, tmp_path: Path
) -> None:
    async def play(stage: Stage) -> None:
        shares = Shares(stage.client)
        assert await shares.taken([]) == await Shares(stage.client).taken([])
        before = (await shares.memory()).used
        await stage.filled.receive(*({"type": "x", "token": f"{n}", "pad": "x" * 4000} for n in range(300)))
        await stage.filled.admit("down", "other")
        await stage.filled.settle("down", End.DEAD)
        used = (await shares.memory()).used - before
        taken = await shares.taken(SOURCES)
        assert 0.5 * used < taken.targets["down"] < 1.2 * used
        assert taken.targets["other"] == pytest.approx(taken.targets["down"], rel=0.2)
        await stage.filled.receive(*(b"%d" % n + b"x" * 4000 for n in range(300)))
        waiting = (await shares.taken(SOURCES)).sources["trustshare"]
        await stage.filled.admit()
        held = (await shares.taken(SOURCES)).sources["trustshare"]
        assert 1_000_000 < waiting < 2_500_000
        assert 1_000_000 < held < 2_500_000
        await shares.publish("a", Verdict(await now_ms(stage.client), {"down": "1"}, {"s": "2"}, {"old": 3}))
        await shares.publish("b", Verdict(await now_ms(stage.client), {"other": "1"}))
        await shares.publish("c", Verdict(1, {"long ago": "1"}))
        verdict = await shares.verdict()
        assert (verdict.targets, verdict.sources) == ({"down": "1", "other": "1"}, {"s": "2"})
        assert verdict.stranded == {"old": 3}

    staged(redis_url, tmp_path, play)


@pytest.mark.case(n=47)
def test_a_disk_that_fails_again_is_said_again(redis_url: str, tmp_path: Path) -> None:
    failed = "dead letters cannot be moved to the disk: they stay in Redis"
    mended = "dead letters can be moved to the disk again"

    async def play(stage: Stage) -> None:
        config = parse_config({"archive": {"dead_letters": f"sqlite:///{stage.file.path}"}})
        with capture_logs() as lines:
            keeping = asyncio.create_task(ShareKeeper(config, "worker", stage.client).run())
            for said in ([failed], [failed, mended], [failed, mended, failed]):
                if said[-1] == failed:
                    stage.file.path.write_bytes(
                        b"this is no database, and long enough to be seen as none" * 50
                    )
                else:
                    stage.file.path.unlink()
                await asyncio.to_thread(
                    wait_for,
                    lambda: [line["event"] for line in lines] == said,  # noqa: B023
                    said[-1],
                    within_s=60,
                )
            keeping.cancel()

    staged(redis_url, tmp_path, play)


@pytest.mark.case(n=47)
def test_a_file_that_cannot_be_written_or_is_newer_is_refused_in_one_line_and_nothing_leaves_redis(
    redis_url: str, tmp_path: Path
) -> None:
    async def play(stage: Stage) -> None:
        ids = await stage.dead_letters(1)
        stage.file.path.write_bytes(b"this is no database, and long enough to be seen as none" * 50)
        with pytest.raises(ArchiveUnavailable, match="not a database"):
            await stage.moves.dead_letters("down", hold=False)
        stage.file.path.unlink()
        await stage.moves.dead_letters("down", hold=False)
        assert await stage.listed() == ids
        import sqlite3

        with sqlite3.connect(stage.file.path) as database:
            database.execute("UPDATE schema_version SET version = ?", (VERSION + 1,))
        database.close()
        with pytest.raises(ArchiveUnavailable, match="newer Headrace") as raised:
            DeadLetterFile(f"sqlite:///{stage.file.path}").counts()
        assert "\n" not in str(raised.value)
        nowhere = DeadLetterFile(f"sqlite:///{tmp_path}/dead-letters.db/below/it.db")
        with pytest.raises(ArchiveUnavailable):
            nowhere.arrived([("a", "b")], "1")

    staged(redis_url, tmp_path, play)
