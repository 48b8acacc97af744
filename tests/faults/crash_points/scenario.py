"""What is played for each kill: a few sources, a target of every kind, copies, an unreadable body, and what other
workers left behind when they died. Small, and yet each operation of a worker's is needed for it.
"""

import asyncio
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from shared.config.file import read_config
from shared.event.ids import stream_id
from shared.routing.reading import Reader
from shared.store.admission import Admission, AdmissionOptions
from shared.store.due import Limits
from shared.store.inbox import IN_TURN
from shared.store.keys import GROUP, Keys
from tests.acceptance.gateway import TRUSTSHARE_SECRET, target
from tests.acceptance.sink import Answers, Delivery, Sink
from tests.integration.store import Store, open_store

KEYS = Keys()

STOP_WITHIN_S = 0.5
"""The grace of a worker that is told to stop."""

SHOP, ORDERS, FRESH, PLAIN = SOURCES = "shop", "orders", "fresh", "plain"
"""The second feeds the ordered target; nobody has read from the third yet. The last two, of another provider, are
not admitted from in turn.
"""
REMOVED = "removed"
QUICK = "{ initial = '0.01s', factor = 1.0, attempts = %d }"
PATIENT = "{ failures = 1000 }"

DONE = ("healthy", "slow", "flaky", "ordered")
DEAD = ("failing", "gone", REMOVED)


def config_text(url: str, port: int, sink: Sink, *, archive_url: str = "") -> str:
    sources = "".join(
        f'[[sources]]\nname = "{name}"\nprovider = "trustshare"\nsecrets = ["{TRUSTSHARE_SECRET}"]\n'
        for name in (SHOP, ORDERS)
    )
    sources += "".join(
        f'[[sources]]\nname = "{name}"\nprovider = "truust"\npath_tokens = ["{name}-token-0123456789"]\n'
        for name in (FRESH, PLAIN)
    )
    targets = (
        target("healthy", sink.port, retry=QUICK % 5, rate='"1000/s"')
        + target("slow", sink.port)
        + target("flaky", sink.port, retry=QUICK % 5, breaker=PATIENT)
        + target("failing", sink.port, retry=QUICK % 1, breaker=PATIENT, sources=f'["{SHOP}"]')
        + target("gone", sink.port, concurrency="1", sources=f'["{SHOP}"]')
        + target("ordered", sink.port, retry=QUICK % 5, ordering='"transaction"', sources=f'["{ORDERS}"]')
    )
    archive = f'archive.url = "{archive_url}"\nretention.hot = "0.1s"\n' if archive_url else ""
    return f'redis.url = "{url}"\ningress.port = {port}\n{archive}{sources}{targets}'


def _slowly(_: Delivery, __: int) -> int:
    time.sleep(0.15)  # so that kills, wherever they fall, find requests that nobody has answered yet
    return 200


def late_once(_: Delivery, before: int) -> int:
    """Answer so late that a worker which is told to stop hands the delivery back; the next time, at once."""
    time.sleep(0 if before else 2 * STOP_WITHIN_S)
    return 200


ANSWERS: dict[str, Answers] = {
    "slow": _slowly,
    "ordered": lambda _, before: 500 if before < 1 else 200,
    "flaky": lambda _, before: 500 if before < 2 else 200,
    "failing": lambda *_: 500,
    "gone": lambda *_: 410,
}
"""How the targets answer; all others with 200."""


def body(type_: str, token: str, **fields: str) -> bytes:
    return json.dumps({"type": type_, "token": token, **fields}).encode()


UNREADABLE = b"this is no JSON"
LEFT_LEASED = (body("payment_received", "s1", paymentToken="p1"), body("dispute_raised", "s2"))
LEFT_TAKEN = body("payment_paused", "s1", paymentToken="p1", reason="review")
WAITING = (
    body("payment_received", "s3", paymentToken="p3"),
    body("a_type_that_nobody_knows", "s4"),
    UNREADABLE,
    body("payment_received", "s3", paymentToken="p3"),
    UNREADABLE,
)
IN_ORDER = (
    body("transaction_initiated", "t1"),
    body("transaction_initiated", "t2"),
    body("payment_received", "t1", paymentToken="p1"),
    body("transaction_initiated", "t1"),
    body("payment_received", "t2", paymentToken="p2"),
)
AGAIN = ((SHOP, WAITING[0]), (ORDERS, IN_ORDER[0]))
"""What a provider sends again while everything is down."""


class Sent(NamedTuple):
    """What was committed: source, body and receipt."""

    source: str
    body: bytes
    id: str


def of_targets(source: str) -> set[str]:
    """The targets of a source's events."""
    more = {SHOP: {"failing", "gone"}, ORDERS: {"ordered"}, FRESH: set[str](), PLAIN: set[str]()}
    return {"healthy", "slow", "flaky"} | more[source]


def send(url: str, source: str, *bodies: bytes) -> list[Sent]:
    """Commit bodies as ingress does."""

    async def put() -> list[Sent]:
        async with open_store(url) as store:
            return await _put(store, source, *bodies)

    return asyncio.run(put())


async def _put(store: Store, source: str, *bodies: bytes) -> list[Sent]:
    ids = await store.put(*bodies, source=source)
    return [Sent(source, each, id) for each, id in zip(bodies, ids, strict=True)]


def wait_again(url: str, target: str, ids: Iterable[str]) -> None:
    """Let dead letters of a target wait for it again."""

    async def replay() -> None:
        async with open_store(url) as store:
            places = [KEYS.due(target), KEYS.leased(target), KEYS.dead(target)]
            await store.client.run("replay", places, [target, *ids])

    asyncio.run(replay())


def seed(url: str, config: Path) -> list[Sent]:
    """Put everything into the store as ingress, and workers that died, leave it."""
    return asyncio.run(_seed(url, Reader(read_config(config))))


async def _seed(url: str, reader: Reader) -> list[Sent]:
    async with open_store(url) as store:
        redis: Any = store.redis
        # Dead workers': two claimed deliveries, the second for the tenth time; one of a target that is no more;
        # a request that was taken from either inbox and never admitted.
        sent = await _put(store, SHOP, *LEFT_LEASED)
        batch = [reader.read(entry) for entry in await store.inbox.take(SHOP, "dead")]
        assert isinstance(batch[0], Admission)
        batch[0] = msgspec.structs.replace(batch[0], targets=[*batch[0].targets, REMOVED])
        await store.inbox.admit(SHOP, batch, AdmissionOptions(reader.window_ms(SHOP), 600_000))
        await redis.hset(KEYS.event(sent[1].id), "lapsed:healthy", 9)
        await redis.zadd(KEYS.targets, {REMOVED: 1})
        for name in ("healthy", REMOVED):
            await store.due.claim(name, most=9, limits=Limits(lease_ms=1, concurrency=9))
        sent += await _put(store, SHOP, LEFT_TAKEN)
        sent += await _put(store, PLAIN, body("of nobody's", "p1"))
        for source, taken in ((SHOP, sent[-2]), (PLAIN, sent[-1])):
            await store.inbox.take(source, "dead")
            await redis.xclaim(
                KEYS.inbox(source), GROUP, "dead", 0, [stream_id(taken.id)], idle=60_000, justid=True
            )
        sent += await _put(store, ORDERS, IN_ORDER[0])
        await store.inbox.take(ORDERS, IN_TURN)
        # And what came since.
        sent += await _put(store, SHOP, *WAITING)
        sent += await _put(store, ORDERS, *IN_ORDER[1:])
        sent += await _put(store, FRESH, body("dispute_raised", "f1"))
        return sent
