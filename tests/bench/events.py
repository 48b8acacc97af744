"""Bodies as a provider sends them, each another event; and an inbox filled with them."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

import msgspec

from shared.config.file import read_config
from shared.delivery.formats import compose
from shared.event.record import EventRecord
from shared.routing.reading import Reader
from shared.settings import PREFIX, Config
from shared.store.address import parse_address
from shared.store.admission import Admission, AdmissionOptions, Entry
from shared.store.client import RedisClient
from shared.store.inbox import Inbox, Received
from tests.acceptance.gateway import SOURCES

SOURCE = "trustshare"
AT_ONCE = 256
WINDOW_MS = 7 * 86_400_000

T = TypeVar("T")


def body(number: int) -> bytes:
    """Return the body of an event of trustshare; `number` makes its identity."""
    return (
        b'{"type":"payment_received","from":"buyer@example.com","to":"seller@example.com",'
        b'"verification":{"from":"in_review","to":"verified"},"token":"%010d","paymentToken":"%016d",'
        b'"currency":"gbp","description":"my transaction description","amount":150000,"balance":150000}'
    ) % (number, number)


@cache
def _reader() -> Reader:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "headrace.toml"
        path.write_text(f'redis.url = "unix:///nowhere"\n{SOURCES}')
        config: Config = read_config(path)
    return Reader(config)


def composed(number: int) -> bytes:
    """Return what a target is sent for `body(number)`."""
    entry = Entry(f"1767225600000-{number}", SOURCE, body(number), {})
    read = _reader().read(entry)
    assert isinstance(read, Admission)
    return compose(EventRecord(entry.id, read.attributes, read.data, entry.body), "cloudevents")[1]


def fill(socket: Path, first: int, count: int) -> None:
    """Put `count` events into the inbox, as ingress does, numbered from `first`."""

    async def put(client: RedisClient) -> None:
        for start in range(first, first + count, AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, first + count))
            await _put(Inbox(client), numbers)

    with_client(socket, put)


def admit(socket: Path, first: int, count: int, targets: Callable[[int], Sequence[str]]) -> None:
    """Take `count` events all the way to their due sets, as ingress and a worker do.

    `targets` says which an event of some number goes to.
    """

    async def put(client: RedisClient) -> None:
        inbox = Inbox(client)
        for start in range(first, first + count, AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, first + count))
            await _put(inbox, numbers)
            entries: list[Entry] = []
            while len(entries) < len(numbers):
                entries += await inbox.take(SOURCE, "bench")
            batch = []
            for number, entry in zip(numbers, entries, strict=True):
                read = _reader().read(entry)
                assert isinstance(read, Admission)
                batch.append(msgspec.structs.replace(read, targets=targets(number)))
            outcomes = await inbox.admit(SOURCE, batch, AdmissionOptions(WINDOW_MS, WINDOW_MS))
            assert all(outcome.what == "admitted" for outcome in outcomes)

    with_client(socket, put)


async def _put(inbox: Inbox, numbers: range) -> None:
    results = await inbox.put([Received(SOURCE, body(number), {}) for number in numbers])
    assert all(isinstance(result, str) for result in results)


def with_client(socket: Path, work: Callable[[RedisClient], Coroutine[None, None, T]]) -> T:
    """Run a coroutine with a client of a stack's Redis."""

    async def main() -> T:
        client = RedisClient(parse_address(f"unix://{socket}", PREFIX), timeout_s=60)
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(main())
