"""What a finished event takes in Redis is what deploy/README.md says."""

import asyncio
from pathlib import Path
from random import Random

import msgspec
import pytest

from shared.store.due import End
from tests.conftest import WITHOUT_LOG, RedisServer
from tests.documents import memory
from tests.integration.filled import Filled, with_redis
from tests.integration.store import used_memory
from tests.integration.test_packing import pack
from tests.unit.sources import SAMPLES

FIRST = 2000  # by these the tables of dedupe keys are there
NEAR = 0.12
USUAL: bytes = SAMPLES["trustshare/payment_received"].strip()


class Bodies:
    """Bodies of about some size: the provider's own sample with other ids, and with as many items as fit."""

    def __init__(self, size: int) -> None:
        self._random = Random(size)
        self._size = size
        self.bytes = 0

    def token(self) -> str:
        return "".join(
            self._random.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", k=16)
        )

    def body(self) -> bytes:
        body = USUAL
        for known in (b"5CIXLExTtrIE8387", b"f79L9CBt3NuyEEap"):
            body = body.replace(known, self.token().encode())
        items: list[bytes] = []
        while len(body) + sum(map(len, items)) < self._size - 100:
            items.append(
                msgspec.json.encode(
                    {
                        "sku": self.token()[:10],
                        "name": f"Item {self._random.randrange(10**6)}",
                        "quantity": self._random.randrange(1, 9),
                        "unit_amount": self._random.randrange(100, 99_999),
                        "currency": "gbp",
                    }
                )
            )
        if items:
            body = body[:-1] + b',"items":[' + b",".join(items) + b"]}"
        self.bytes += len(body)
        return body


async def fill(store: Filled, bodies: Bodies, count: int, targets: tuple[str, ...]) -> None:
    for _ in range(0, count, 200):
        await store.receive(*(bodies.body() for _ in range(200)))
        await store.admit(*targets)
        for target in targets:
            await store.settle(target, End.DONE, status=200)


async def used(store: Filled) -> int:
    """The memory that is in use once Redis has cleared the buffers of connections and grown its tables.

    It does both bit by bit: this waits until a few seconds have brought nothing more.
    """
    least, looks = None, 0
    while looks < 4:
        now = await used_memory(store.client.redis)
        least, looks = (now, 0) if least is None or now < 0.999 * least else (min(now, least), looks + 1)
        await asyncio.sleep(0.75)
    return least or 0


# Redis' tables double as they grow: so few events are measured only about.
@pytest.mark.parametrize(
    ("count", "size", "targets"),
    [(10_000, 342, 1), (3000, 342, 3), (3000, 2_000, 1), (2000, 8_000, 1)],
)
def test_an_event_takes_what_the_formula_says(folder: Path, count: int, size: int, targets: int) -> None:
    names = tuple(f"target-{n}" for n in range(targets))

    async def check(store: Filled) -> None:
        await fill(store, Bodies(size), FIRST, names)
        await pack(store)
        bodies = Bodies(size + 1)
        before = await used(store)
        await fill(store, bodies, count, names)
        unpacked = (await used(store) - before) / count
        await pack(store)
        packed = (await used(store) - before) / count
        body = bodies.bytes // count
        print(f"body {body}, targets {targets}: {unpacked:.0f}, packed {packed:.0f}")
        assert packed == pytest.approx(memory.packed(body, targets), rel=NEAR)
        if targets == 1:
            assert unpacked == pytest.approx(memory.unpacked(body), rel=NEAR)
        if (size, targets) == (342, 1):
            assert body == 342
            assert packed <= 900

    with RedisServer(folder, *WITHOUT_LOG) as server:
        with_redis(server.url, check)
