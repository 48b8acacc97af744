"""A store filled through the real code: events received, admitted, delivered and given up on."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec

from shared.errors import Unreadable
from shared.event.canonical import DedupeKey
from shared.event.ids import received_ms
from shared.event.record import attributes_of, data_of
from shared.providers.base import RawEvent
from shared.settings import PREFIX
from shared.store.address import parse_address
from shared.store.admission import Admission, AdmissionOptions, Entry, Quarantine
from shared.store.client import RedisClient
from shared.store.due import Attempt, BreakerPolicy, End, Limits, Settlement
from shared.store.inbox import Inbox, Received
from shared.store.keys import transaction
from tests.integration.due import Claims, Due

from ..unit.sources import source

T = TypeVar("T")

HOUR_MS = 3_600_000
LEASE_MS = 30_000
PATIENT = BreakerPolicy(failures=10**6, first_ms=1, longest_ms=1, disable_after_ms=10**12)
E_MAIL = "canary.buyer@example.com"
ANSWER = "canary-answer-of-the-target"
PAID: dict[str, Any] = {
    "type": "payment_received",
    "token": "tx-1",
    "paymentToken": "pay-1",
    "from": E_MAIL,
    "amount": 150000,
    "currency": "GBP",
}

adapter = source("trustshare")


def with_redis(url: str, body: Callable[["Filled"], Awaitable[T]]) -> T:
    """Run a test's coroutine with a store to fill."""

    async def run() -> T:
        client = RedisClient(parse_address(url, PREFIX), timeout_s=5)
        try:
            return await body(Filled(client))
        finally:
            await client.close()

    return asyncio.run(run())


class Filled:
    """Does to a store what ingress and workers do."""

    def __init__(self, client: RedisClient) -> None:
        self.client = client
        self.inbox = Inbox(client)
        self.due = Due(client)

    async def receive(self, *bodies: dict[str, Any] | bytes, source: str = "trustshare") -> list[str]:
        """Put bodies into a source's inbox. Returns the receipts."""
        raw = [body if isinstance(body, bytes) else msgspec.json.encode(body) for body in bodies]
        receipts = await self.inbox.put([Received(source, body, {}) for body in raw])
        return [receipt for receipt in receipts if isinstance(receipt, str)]

    async def admit(self, *targets: str, source: str = "trustshare") -> None:
        """Admit what waits in a source's inbox, for these targets."""
        while entries := await self.inbox.take(source, "worker-1"):
            batch = [self._read(entry, targets) for entry in entries]
            await self.inbox.admit(source, batch, AdmissionOptions(HOUR_MS, HOUR_MS))

    async def admit_in_order(self, *targets: str, source: str = "trustshare") -> None:
        """Admit what waits in a source's inbox, for these targets, each transaction's events in order."""
        while entries := await self.inbox.take(source, "worker-1"):
            batch = [
                msgspec.structs.replace(item, in_order=targets) if isinstance(item, Admission) else item
                for item in (self._read(entry, targets) for entry in entries)
            ]
            await self.inbox.admit(source, batch, AdmissionOptions(HOUR_MS, HOUR_MS))

    def _read(self, entry: Entry, targets: Sequence[str]) -> Admission | Quarantine:
        try:
            event = adapter.normalise(RawEvent(entry.body, entry.headers))
        except Unreadable as error:
            return Quarantine(entry, error.code, error.detail)
        return Admission(
            entry=entry,
            dedupe=event.dedupe or DedupeKey((entry.id,)),
            targets=targets,
            attributes=msgspec.json.encode(
                attributes_of(event, id=entry.id, source=entry.source, received_ms=received_ms(entry.id))
            ),
            data=msgspec.json.encode(data_of(event, provider="trustshare")),
            transaction=transaction("trustshare", event.transaction_id) if event.transaction_id else "",
        )

    async def events(self, count: int, *targets: str, source: str = "trustshare") -> list[str]:
        """Receive and admit events that differ in their payment. Returns their ids."""
        bodies = [PAID | {"paymentToken": f"{source}-{n}"} for n in range(count)]
        ids = await self.receive(*bodies, source=source)
        await self.admit(*targets, source=source)
        return ids

    async def claim(self, target: str, most: int = 1000) -> Claims:
        """Claim what is due for a target."""
        return await self.due.claim(target, most=most, limits=Limits(LEASE_MS, 10_000))

    async def settle(
        self, target: str, end: End, *, most: int = 1000, status: int | None = 500, hold: bool = False
    ) -> int:
        """Claim what is due for a target and settle it so. Returns how many that were."""
        claims = await self.claim(target, most)
        attempt = Attempt(
            n=1,
            at_ms=claims.now_ms,
            duration_ms=12.5,
            status=status,
            error="" if status else "timeout: no answer",
            answer=ANSWER if status else "",
        )
        settled = [Settlement(claimed, end, 60_000, attempt) for claimed, _ in claims.entries]
        await self.due.settle(settled, {target: msgspec.structs.replace(PATIENT, hold=hold)})
        return len(settled)
