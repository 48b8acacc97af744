"""The inbox: ingress commits requests to it, and admission takes them out."""

from collections.abc import Sequence
from typing import Any

import msgspec
from redis.exceptions import ResponseError

from shared.errors import StoreUnavailable
from shared.event.ids import event_id
from shared.store.admission import (
    TURN_MS,
    Admission,
    AdmissionOptions,
    Entry,
    Outcome,
    Place,
    Quarantine,
    admit,
    admit_call,
    outcomes_of,
)
from shared.store.bells import ring_arguments
from shared.store.client import NamedCall, RedisClient, translated, unavailable
from shared.store.doorbell import ADMIT, Doorbell
from shared.store.keys import GROUP, Keys

TAKE_BYTES = 64 * 1024 * 1024
TAKE_MOST = 128
LEFT_BEHIND_MS = 30_000
IN_TURN = "in-turn"
PUT_BYTES = 1024 * 1024


class Received(msgspec.Struct, frozen=True):
    """A request to commit. `headers` are those that the adapter keeps."""

    source: str
    body: bytes
    headers: dict[str, str]


class Backlog(msgspec.Struct, frozen=True):
    """The requests of a source that are not admitted yet. `bytes` is Redis's estimate of their memory."""

    events: int
    bytes: int


class Inbox:
    """The inboxes of all sources."""

    def __init__(self, client: RedisClient, *, wait_replicas: int = 0) -> None:
        self._client = client
        self._keys = client.keys
        self._wait_replicas = wait_replicas
        self._largest: dict[str, float] = {}

    async def put(self, batch: Sequence[Received]) -> list[str | Exception]:
        """Commit requests and ring for them, in one round trip.

        Returns, for each, its event id or a StoreUnavailable. Raises: StoreUnavailable if nothing is
        known of any (the connection broke: some may be stored, and the providers' re-sends are copies).
        """
        parts = _parts(batch)
        calls = [part.call(self._keys) for part in parts]
        replies = await self._client.run_each(calls, replicas=self._wait_replicas)
        results: list[str | Exception] = [""] * len(batch)
        for part, reply in zip(parts, replies, strict=True):
            entries = [reply] * len(part.places) if isinstance(reply, Exception) else reply
            source = part.source
            for place, entry in zip(part.places, entries, strict=True):
                results[place] = (
                    event_id(source, entry.decode()) if isinstance(entry, bytes) else _refusal(entry)
                )
        return results

    def most(self, source: str) -> int:
        """Return how many entries the next take asks for. If it returns fewer, it has taken all."""
        largest = max(self._largest.get(source, 0.0), 1.0)
        return int(min(TAKE_MOST, max(1, TAKE_BYTES // largest)))

    async def take(self, source: str, consumer: str, *, rung_by: Doorbell | None = None) -> list[Entry]:
        """Take the oldest entries that no worker has taken, as many as memory allows.

        `rung_by` is the doorbell whose flag is lowered before the inbox is read: requests that come after
        that ring again.

        Raises: StoreUnavailable.
        """
        most = self.most(source)
        with translated():
            try:
                reply = await self._read(source, consumer, most, rung_by)
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                await self._create_group(source)
                reply = await self._read(source, consumer, most, None)
        if not reply:
            return []
        # XREADGROUP's nil for an entry deleted meanwhile cannot happen with `>`: it reads what is there.
        return self._taken(
            source,
            [_entry(source, id, fields[b"body"], fields.get(b"headers")) for id, fields in reply[0][1]],
        )

    def _taken(self, source: str, entries: list[Entry]) -> list[Entry]:
        """Adapt how many are taken at once to the size of recent bodies; the weight of an old large one
        halves each time.
        """
        if entries:
            largest = self._largest.get(source, 0.0) / 2
            self._largest[source] = max(largest, *(len(entry.body) for entry in entries))
        return entries

    async def _read(self, source: str, consumer: str, most: int, rung_by: Doorbell | None) -> Any:
        pipe = self._client.redis.pipeline(transaction=False)
        if rung_by:
            pipe.delete(self._keys.rung(rung_by.name))
        pipe.xreadgroup(GROUP, consumer, {self._keys.inbox(source): ">"}, count=most)
        replies = await pipe.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies[-1]

    async def _create_group(self, source: str) -> None:
        try:
            await self._client.redis.xgroup_create(self._keys.inbox(source), GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise  # else another worker was first

    async def take_over(self, source: str, consumer: str) -> Entry | None:
        """Take over one entry that a dead worker had taken, and count the take; None if there is none.

        Raises: StoreUnavailable.
        """
        try:
            found = await self._client.run(
                "take_over",
                [self._keys.inbox(source), self._keys.alone(source)],
                [GROUP, consumer, LEFT_BEHIND_MS],
            )
        except StoreUnavailable as error:
            if "NOGROUP" in str(error):
                return None
            raise
        if not found:
            return None
        id, fields, takes = found
        values = dict(zip(fields[::2], fields[1::2], strict=True))
        return _entry(source, id, values[b"body"], values.get(b"headers"), takes)

    async def begin_turn(self, source: str, holder: str) -> list[Entry] | None:
        """Begin a turn: for TURN_MS at a time, only this worker admits from a source whose events must stay
        in order.

        Returns the oldest entries in their order: first, one at a time, those that an earlier turn left
        behind. If there are none, the turn has ended. Returns None if another worker has the turn. Raises:
        StoreUnavailable.
        """
        return self._taken_in_turn(source, await self._client.run(*self._take_call(source, holder, TURN_MS)))

    def _take_call(self, source: str, holder: str, begin_ms: int | None = None) -> NamedCall:
        keys = [self._keys.inbox(source), self._keys.alone(source), self._keys.turn(source)]
        args: list[str | int] = [GROUP, IN_TURN, LEFT_BEHIND_MS, self.most(source), holder, begin_ms or ""]
        return "take_in_turn", [*keys, _rung(self._keys, source)], args

    def _taken_in_turn(self, source: str, reply: Sequence[Any]) -> list[Entry] | None:
        takes, *found = reply
        if takes < 0:
            return None
        entries = zip(found[::3], found[1::3], found[2::3], strict=True)
        return self._taken(source, [_entry(source, *entry, takes) for entry in entries])

    async def end_turn(self, source: str, holder: str) -> int:
        """End the turn, so that new requests ring again. Returns how many entries are in the inbox.

        Raises: StoreUnavailable.
        """
        keys = [self._keys.turn(source), self._keys.inbox(source), _rung(self._keys, source)]
        length: int = await self._client.run("end_turn", keys, [holder])
        return length

    async def admit(
        self, source: str, batch: Sequence[Admission | Quarantine], options: AdmissionOptions
    ) -> list[Outcome]:
        """Admit entries that were taken. Raises: StoreUnavailable, as `shared.store.admission.admit` says."""
        return await admit(self._client, Place.INBOX, source, batch, options)

    async def admit_and_take_in_turn(
        self, source: str, part: Sequence[Admission | Quarantine], options: AdmissionOptions
    ) -> tuple[list[Outcome], list[Entry]]:
        """Admit one of the `parts` of what was taken in turn, and take what comes next, in one round trip.

        If there are no more, the turn has ended. Raises: StoreUnavailable, as `admit` does; what comes next,
        if it was taken, is left behind then.
        """
        call = admit_call(self._keys, Place.INBOX, source, part, options)
        replies = await self._client.run_each([call, self._take_call(source, options.fence)])
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        admitted, taken = replies
        return outcomes_of(part, admitted), self._taken_in_turn(source, taken) or []

    async def backlogs(self, sources: Sequence[str]) -> list[Backlog]:
        """Return how much waits in each inbox, in one round trip.

        Redis estimates from a few nodes of a stream, so a long stream costs no more. Raises:
        StoreUnavailable.
        """
        with translated():
            pipe = self._client.redis.pipeline(transaction=False)
            for source in sources:
                pipe.xlen(self._keys.inbox(source))
                pipe.memory_usage(self._keys.inbox(source))
            replies: list[int | None] = await pipe.execute()
        return [Backlog(*(reply or 0 for reply in replies[i : i + 2])) for i in range(0, len(replies), 2)]

    async def tidy(self, source: str, *, idle_ms: int = 3_600_000) -> None:
        """Remove consumers that are long idle and have nothing pending. Raises: StoreUnavailable."""
        await self._client.run("tidy", [self._keys.inbox(source)], [GROUP, idle_ms])


class _Part:
    """One call to one source's inbox: its requests, and their positions in the batch."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.places: list[int] = []
        self.bytes = 0
        self._args: list[str | bytes | int | float] = []

    def add(self, place: int, item: Received) -> None:
        self.places.append(place)
        self.bytes += len(item.body)
        self._args.append(item.body)
        self._args.append(msgspec.json.encode(item.headers) if item.headers else b"")

    def call(self, keys: Keys) -> NamedCall:
        rung, ring = ring_arguments(keys, Doorbell(ADMIT, self.source))
        return "put", [keys.inbox(self.source), *rung], [*ring, *self._args]


def _parts(batch: Sequence[Received]) -> list[_Part]:
    """Divide a batch by source, and into calls that do not hold Redis for long."""
    parts: list[_Part] = []
    filling: dict[str, _Part] = {}
    for place, item in enumerate(batch):
        part = filling.get(item.source)
        if part is None or part.bytes + len(item.body) > PUT_BYTES:
            part = filling[item.source] = _Part(item.source)
            parts.append(part)
        part.add(place, item)
    return parts


def _refusal(error: Exception) -> StoreUnavailable:
    return error if isinstance(error, StoreUnavailable) else unavailable(error)


def _rung(keys: Keys, source: str) -> str:
    return keys.rung(Doorbell(ADMIT, source).name)


def _entry(source: str, id: bytes, body: bytes, headers: bytes | None, takes_alone: int = 0) -> Entry:
    return Entry(
        stream_id=id.decode(),
        source=source,
        body=body,
        headers=msgspec.json.decode(headers, type=dict[str, str]) if headers else {},
        takes_alone=takes_alone,
    )
