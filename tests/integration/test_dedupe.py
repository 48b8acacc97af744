"""Dedupe keys on a real Redis: what they cost, how long they are held, and those of earlier versions."""

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from shared.event.canonical import DedupeKey
from shared.event.ids import stream_id
from shared.store.admission import Admission, AdmissionOptions, Entry, Place
from shared.store.admission import admit as admit_from
from shared.store.clock import now_ms
from tests.conftest import WITHOUT_LOG, RedisServer
from tests.integration.store import (
    ATTRIBUTES,
    DATA,
    RETENTION_MS,
    SOURCE,
    WINDOW_MS,
    WORKER,
    Store,
    used_memory,
    with_store,
)

KEYS = 200_000  # enough for a second table
AT_ONCE = 128
DAY_MS = 86_400_000
RAISED = DedupeKey(("dispute_raised", "t"), counts="dispute_resolved:t", raises="dispute_raised:t")
RESOLVED = DedupeKey(("dispute_resolved", "t"), counts="dispute_raised:t", raises="dispute_resolved:t")


async def admit(
    store: Store, sent: Sequence[tuple[bytes, DedupeKey | None]], options: AdmissionOptions
) -> list[str]:
    """Receive bodies with these keys and admit them at once. Returns what became of them."""
    await store.put(*(body for body, _ in sent))
    return await admit_waiting(store, [key for _, key in sent], options)


async def admit_waiting(
    store: Store, keys: Sequence[DedupeKey | None], options: AdmissionOptions
) -> list[str]:
    entries = await store.inbox.take(SOURCE, WORKER)
    batch = [Admission(entry, key, [], ATTRIBUTES, DATA) for entry, key in zip(entries, keys, strict=True)]
    return [outcome.what for outcome in await store.inbox.admit(SOURCE, batch, options)]


@pytest.mark.case(n=56)
@pytest.mark.timeout(600)
def test_a_dedupe_key_takes_at_most_40_bytes_and_is_found_among_all_others(folder: Path) -> None:
    """Whatever else admission writes is removed: what is left are the keys."""

    def sent(first: int) -> list[tuple[bytes, DedupeKey | None]]:
        numbers = range(first, min(first + AT_ONCE, KEYS))
        return [(b"%d" % number, DedupeKey((str(number),))) for number in numbers]

    async def check(store: Store) -> None:
        async def new(first: int) -> None:
            batch = sent(first)
            assert await admit(store, batch, AdmissionOptions(7 * DAY_MS, RETENTION_MS)) == [
                "admitted"
            ] * len(batch)
            await store.upkeep.retain([], events_ms=DAY_MS, dead_letters_ms=DAY_MS, under_pressure=True)

        await new(0)
        before = await used_memory(store.redis)
        for first in range(AT_ONCE, KEYS, AT_ONCE):
            await new(first)
        assert await store.redis.exists("hr:finished", "hr:open") == 0
        assert len((await store.redis.get("hr:dedupe:trustshare") or b"").split()) > 2, "one table is full"
        assert (await used_memory(store.redis) - before) / (KEYS - AT_ONCE) <= 40
        for first in range(0, KEYS, AT_ONCE * 50):
            batch = sent(first)
            assert await admit(store, batch, AdmissionOptions(7 * DAY_MS, RETENTION_MS)) == [
                "duplicate"
            ] * len(batch)

    with RedisServer(folder, *WITHOUT_LOG) as server:
        with_store(server.url, check)


@pytest.mark.case(n=16)
def test_what_is_older_than_the_window_holds_its_key_no_more_though_it_is_there_still(redis_url: str) -> None:
    async def check(store: Store) -> None:
        sent = [(b"x", DedupeKey(("k",)))]
        assert await admit(store, sent, AdmissionOptions(WINDOW_MS, RETENTION_MS)) == ["admitted"]
        assert await admit(store, sent, AdmissionOptions(WINDOW_MS, RETENTION_MS)) == ["duplicate"]
        await asyncio.sleep(0.01)
        assert len(await store.redis.keys("hr:dedupe:*:*")) == 1
        assert await admit(store, sent, AdmissionOptions(1, RETENTION_MS)) == ["admitted"], (
            "a reload made it shorter"
        )

    with_store(redis_url, check)


def test_copies_that_waited_for_longer_than_the_window_are_copies(redis_url: str) -> None:
    """Workers were away for longer than that."""

    async def check(store: Store) -> None:
        await store.put(b"x", b"x")
        await store.redis.xgroup_create("hr:inbox:trustshare", "workers", id="0")
        await asyncio.sleep(1.5)
        options = AdmissionOptions(1000, RETENTION_MS)
        assert await admit_waiting(store, [DedupeKey(("k",))] * 2, options) == ["admitted", "duplicate"]

    with_store(redis_url, check)


def test_a_hash_of_keys_is_cleared_of_those_out_of_the_window(redis_url: str) -> None:
    async def check(store: Store) -> None:
        for number in range(3):
            await admit(store, [(b"x", DedupeKey((str(number),)))], AdmissionOptions(WINDOW_MS, RETENTION_MS))
        hashes = await store.redis.keys("hr:dedupe:*:*")
        for hash in hashes:  # as if each had got all of the three, eleven minutes ago
            for number in range(3):
                old = (await now_ms(store.client) - WINDOW_MS - 60_000).to_bytes(6, "big") + b"0"
                await store.redis.hset(hash, b"k%016d" % number, old)
            await store.redis.pexpire(hash, WINDOW_MS - 1)
        for number in range(3):
            [what] = await admit(
                store, [(b"y", DedupeKey((str(number),)))], AdmissionOptions(WINDOW_MS, RETENTION_MS)
            )
            assert what == "duplicate"
        for number in range(2000):
            await admit(
                store, [(b"y", DedupeKey((f"n{number}",)))], AdmissionOptions(WINDOW_MS, RETENTION_MS)
            )
            if all([await store.redis.hlen(hash) < 4 for hash in hashes]):
                break
        for hash in hashes:
            assert await store.redis.hget(hash, b"k%016d" % 0) is None
            assert await store.redis.pttl(hash) > WINDOW_MS

    with_store(redis_url, check)


@pytest.mark.case(n=38)
@pytest.mark.parametrize("counted", [False, True])
def test_a_key_of_an_earlier_version_is_known(redis_url: str, counted: bool) -> None:
    async def check(store: Store) -> None:
        [first] = await store.put(b"x")
        key = RAISED if counted else DedupeKey(("k",))
        digest = sha256(msgspec.json.encode(key.parts)).hexdigest()[:32]
        name = f"hr:dedupe:{SOURCE}:k{digest}" + (":0" if counted else "")
        await store.redis.set(name, first, px=WINDOW_MS)
        options = AdmissionOptions(WINDOW_MS, RETENTION_MS)
        await store.redis.xtrim("hr:inbox:trustshare", maxlen=0)
        assert await admit(store, [(b"x", key), (b"other", DedupeKey(("l",)))], options) == [
            "duplicate",
            "admitted",
        ]

    with_store(redis_url, check)


@pytest.mark.case(n=51)
def test_a_pair_that_is_sent_again_is_a_copy_within_the_resend_window_and_no_longer(redis_url: str) -> None:
    async def check(store: Store) -> None:
        options = AdmissionOptions(WINDOW_MS, RETENTION_MS, resend_ms=WINDOW_MS // 2)
        pair = [(b"raised", RAISED), (b"resolved", RESOLVED)]
        assert await admit(store, pair, options) == ["admitted"] * 2
        for _ in range(3):
            assert await admit(store, pair, options) == ["duplicate"] * 2
        # A dispute that says something else is another one, and so is its resolution.
        assert (
            await admit(store, [(b"raised anew", RAISED), (b"over", RESOLVED)], options) == ["admitted"] * 2
        )
        assert await admit(store, pair, options) == ["duplicate"] * 2
        # After the span the same bytes are another dispute, once more.
        later = AdmissionOptions(WINDOW_MS, RETENTION_MS, resend_ms=1)
        await asyncio.sleep(0.01)
        assert await admit(store, [pair[0]], later) == ["admitted"]
        assert await admit(store, [pair[1]], later) == ["admitted"]
        assert await admit(store, pair, options) == ["duplicate"] * 2

    with_store(redis_url, check)


@pytest.mark.case(n=51)
def test_a_dispute_that_is_admitted_by_hand_is_known_when_it_is_sent_again(redis_url: str) -> None:
    async def check(store: Store) -> None:
        options = AdmissionOptions(WINDOW_MS, RETENTION_MS, resend_ms=WINDOW_MS)
        # The second comes before the first one's resolution, so it looks like a copy of the first.
        _, copy, _ = await store.put(b"raised", b"raised anew", b"resolved")
        became = await admit_waiting(store, [RAISED, RAISED, RESOLVED], options)
        assert became == ["admitted", "duplicate", "admitted"]
        entry = Entry(stream_id(copy), SOURCE, b"raised anew", {})
        by_hand = [Admission(entry, RAISED, [], ATTRIBUTES, DATA)]
        [outcome] = await admit_from(store.client, Place.DUPLICATES, SOURCE, by_hand, options)
        assert outcome.what == "admitted"
        assert await admit(store, [(b"raised anew, in other words", RAISED)], options) == ["duplicate"]

    with_store(redis_url, check)
