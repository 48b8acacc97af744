"""What is partly in Redis and partly in the archive is shown, sent again and counted as if all of it were in Redis."""

from typing import Any

from shared.operations.archived import Archived
from shared.operations.readmissions import Held, Readmissions
from shared.routing.reading import Reader as BodyReader
from shared.settings import ArchiveSettings, Config, SourceSettings
from shared.store.admission import AdmissionOptions
from shared.store.due import End
from shared.store.keys import transaction
from shared.store.views import EventView
from shared.store.walk import ALWAYS
from tests.integration.archive import Stage, on_stage, paid
from tests.integration.filled import HOUR_MS, PAID

CONFIG = Config(sources=(SourceSettings(name="trustshare", provider="trustshare"),))


async def copies_of(stage: Stage, id: str) -> int:
    """Return how many copies an event is shown with."""
    kept = await stage.events.find(id, [])
    assert isinstance(kept, EventView)
    return kept.copies


def readmissions(stage: Stage) -> Readmissions:
    reader = BodyReader(CONFIG)
    return Readmissions(stage.store.client, reader, retention_ms=HOUR_MS, archive=Archived(stage.reader))


def test_an_event_that_went_to_no_target_is_shown_as_before(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage) -> None:
        id = await stage.done()
        before = await stage.shown(id)
        assert await stage.move() == 1
        assert await stage.shown(id) == before
        assert await stage.listed(state="unmatched") == [id]

    on_stage(redis_url, archive_url, play)


def test_a_span_is_sent_again_in_the_order_of_receipt(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage) -> None:
        same = {"token": "tx-1"}
        ids = await stage.store.receive(*(PAID | paid(number) | same for number in range(5)))
        await stage.store.admit_in_order("ledger")
        for _ in ids:
            await stage.store.settle("ledger", End.DONE, status=200)
        await stage.move()
        # Every second one is in Redis again.
        await stage.replay("ledger", *ids[::2])
        for _ in ids[::2]:
            await stage.store.settle("ledger", End.DONE, status=200)
        assert await stage.replay("ledger") == 5
        lane = stage.store.client.keys.lane("ledger", transaction("trustshare", "tx-1"))
        assert [id.decode() for id in await stage.redis.lrange(lane, 0, -1)] == ids

    on_stage(redis_url, archive_url, play)


def test_a_copy_does_not_leave_redis_before_it_is_archived(redis_url: str, archive_url: str) -> None:
    with_archive = Config(archive=ArchiveSettings(url=archive_url))
    assert Config().copies_ms == Config().retention.events.ms

    async def play(stage: Stage) -> None:
        await stage.done("ledger")
        [copy] = await stage.store.receive(PAID)
        entries = await stage.store.inbox.take("trustshare", "worker-1")
        options = AdmissionOptions(HOUR_MS, with_archive.copies_ms)
        [outcome] = await stage.store.inbox.admit(
            "trustshare", [*map(BodyReader(CONFIG).read, entries)], options
        )
        assert outcome.what == "duplicate"
        key = stage.store.client.keys.duplicate(copy)
        assert await stage.redis.pttl(key) == -1, "it has no end"
        assert await stage.move() == 2
        assert not await stage.redis.exists(key)

    on_stage(redis_url, archive_url, play)


def test_a_copy_that_no_count_has_is_not_taken_off_one(redis_url: str, archive_url: str) -> None:
    """It came while its first was in the archive alone, and is admitted by hand when that is back."""

    async def play(stage: Stage) -> None:
        first = await stage.done("ledger")
        await stage.move()
        [early, late] = await stage.store.receive(PAID | {"description": "1"}, PAID | {"description": "2"})
        await stage.store.admit("ledger")
        await stage.move()
        assert await copies_of(stage, first) == 2
        held = Held(ALWAYS, receipts=(early,))
        # It is looked up, and not admitted: it is still one that was not counted.
        await readmissions(stage).plan(held)
        await stage.move()
        assert await copies_of(stage, first) == 2
        await stage.replay("ledger", first)
        for receipt in (early, late):
            held = Held(ALWAYS, receipts=(receipt,))
            plan: Any = await readmissions(stage).plan(held)
            assert (await readmissions(stage).run(held, plan, user="operator")).admitted == 1
            assert await copies_of(stage, first) == 0

    on_stage(redis_url, archive_url, play)
