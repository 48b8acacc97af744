"""Reads whole dead letters from Redis for the disk, takes them out, and puts them back.

Each step in Redis is one script. `shared.operations.moves` has the order of the steps.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from shared.archive.event import ArchivedEvent
from shared.archive.letter import StoredLetter, ends_of
from shared.delivery.verdicts import Reason
from shared.event.ids import received_ms
from shared.event.record import JSON
from shared.store.client import NamedCall, RedisClient, translated
from shared.store.context import read_context
from shared.store.events import read_first
from shared.store.walk import ALWAYS, Position, Span, walk

READ_MOST = 500
WALK_MOST = 2000


class Letters:
    """The dead letters in Redis, and deliveries that wait and are to become dead letters."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._keys = client.keys

    async def dead(self, target: str) -> list[StoredLetter]:
        """Return the oldest dead letters of a target, as many as are moved at once.

        Raises: StoreUnavailable.
        """
        with translated():
            found: list[Any] = await self._client.redis.zrange(
                self._keys.dead(target), 0, READ_MOST - 1, withscores=True
            )
        died = {id.decode(): int(ms) for id, ms in found}
        read = await self._read(target, list(died))
        return [msgspec.structs.replace(letter, died_ms=died[letter.id]) for letter in read]

    async def drop_orphans(self, target: str) -> None:
        """Remove from a target's oldest dead letters those whose events are gone.

        Raises: StoreUnavailable.
        """
        with translated():
            ids: list[Any] = await self._client.redis.zrange(self._keys.dead(target), 0, READ_MOST - 1)
            gone = await self.gone([id.decode() for id in ids])
            if gone:
                await self._client.redis.zrem(self._keys.dead(target), *gone)

    async def waiting(
        self, target: str, after: Position | None, now_ms: int, why: Reason
    ) -> tuple[list[StoredLetter], Position | None]:
        """Return what has waited longest for a target, as dead letters of `now_ms` for the reason `why`.

        Begins behind the position `after` in the order of receipt, looks at a bounded number of events and
        returns the position where it ended, None at the end of all. Raises: StoreUnavailable.
        """
        ids: list[str] = []
        looked_at = 0
        span = ALWAYS if after is None else Span(after[0], ALWAYS.until_ms)
        async for members in walk(self._client, [self._keys.open], span, newest_first=False):
            new = [member for member in members if after is None or member.position > after]
            for member, waits in zip(new, await self._wait(target, [s.id for s in new]), strict=True):
                after = member.position
                if waits:
                    ids.append(member.id)
                if len(ids) == READ_MOST:
                    break
            looked_at += len(new)
            if len(ids) == READ_MOST or looked_at >= WALK_MOST:
                break
        else:
            after = None
        letters = [
            msgspec.structs.replace(letter, died_ms=now_ms, why=str(why))
            for letter in await self._read(target, ids)
        ]
        if len(letters) < len(ids) and letters:
            after = received_ms(letters[-1].id), letters[-1].id  # the rest was too large to read at once
        return letters, after

    async def _wait(self, target: str, ids: Sequence[str]) -> list[bool]:
        """Tell for each event whether it waits for a target and no worker has claimed it."""
        if not ids:
            return []
        with translated():
            pipe = self._client.redis.pipeline(transaction=False)
            for id in ids:
                pipe.hmget(self._keys.event(id), ["targets", f"end:{target}"])
            heads = await pipe.execute()
            leased: list[Any] = await self._client.redis.zmscore(self._keys.leased(target), list(ids))
        return [
            names is not None and target in names.decode().split(",") and end is None and lease is None
            for (names, end), lease in zip(heads, leased, strict=True)
        ]

    async def _read(self, target: str, ids: Sequence[str]) -> list[StoredLetter]:
        """Read the events that are there, whole, up to about READ_BYTES."""
        if not ids:
            return []
        events = await read_first(self._client, ids)
        return [
            _letter(target, id, event.fields, event.attempts)
            for id, event in zip(ids, events, strict=False)
            if event is not None
        ]

    async def take_out(
        self, target: str, letters: Sequence[StoredLetter], *, waited: bool, hold: bool
    ) -> list[str]:
        """Take letters that are on the disk out of Redis. `waited`: until now they were waiting deliveries.

        Returns the reply of `leave.lua` for each. Raises: StoreUnavailable.
        """
        args: list[str | bytes | int | float] = [target, "hold" if hold else ""]
        for letter in letters:
            args += [letter.id, "" if waited else letter.died_ms]
        return [result.decode() for result in await self._client.run("leave", [], args)]

    async def end(self, target: str, letters: Sequence[StoredLetter], how: str) -> list[str]:
        """End dead letters for good, as `discarded` or `expired`. Returns the reply of `discard.lua` for
        each.

        Raises: StoreUnavailable.
        """
        args: list[str | bytes | int | float] = [target, how]
        for letter in letters:
            args += [letter.id, letter.ordered, letter.transaction_key]
        return [result.decode() for result in await self._client.run("discard", [], args)]

    async def put_back_and_replay(
        self, target: str, ids: Sequence[str], records: Sequence[Sequence[str | bytes | int | float]]
    ) -> list[str]:
        """Put the records of events back that are gone, and send events to a target again.

        `records` are of `record_of` or `archived_record`. It is one transaction: retention could remove a
        record that is back and not yet open again. Returns the reply of `replay.lua` for each of `ids`.

        Raises: StoreUnavailable.
        """
        places = [self._keys.due(target), self._keys.leased(target), self._keys.dead(target)]
        back: list[NamedCall] = [("come_back", [], record) for record in records]
        replies = await self._client.run_as_one([*back, ("replay", places, [target, *ids])])
        return [result.decode() for result in replies[-1]]

    async def replay(self, target: str, ids: Sequence[str]) -> list[str]:
        """Send events that Redis holds to a target again. Returns the reply of `replay.lua` for each.

        Raises: StoreUnavailable.
        """
        results = await self._client.run(
            "replay",
            [self._keys.due(target), self._keys.leased(target), self._keys.dead(target)],
            [target, *ids],
        )
        return [result.decode() for result in results]

    async def on_disk(self, letters: Sequence[StoredLetter]) -> list[bool]:
        """Tell for each letter that is being moved whether it is on the disk, as Redis records it.

        Raises: StoreUnavailable.
        """
        if not letters:
            return []
        with translated():
            pipe = self._client.redis.pipeline(transaction=False)
            for letter in letters:
                pipe.hmget(self._keys.event(letter.id), ["targets", f"end:{letter.target}"])
            return [head is None or end == b"disk" for head, end in await pipe.execute()]

    async def gone(self, ids: Sequence[str]) -> list[str]:
        """Return those of these events whose records Redis no longer has. Raises: StoreUnavailable."""
        with translated():
            pipe = self._client.redis.pipeline(transaction=False)
            for id in ids:
                pipe.exists(self._keys.event(id))
            there = await pipe.execute() if ids else []
        return [id for id, exists in zip(ids, there, strict=True) if not exists]


def _letter(target: str, id: str, event: dict[bytes, bytes], attempts: dict[bytes, bytes]) -> StoredLetter:
    def text(field: str) -> str:
        return event.get(field.encode(), b"").decode()

    targets = text("targets")
    context = read_context(event[b"attributes"])
    own = f"{target} ".encode()
    mine = {field.decode(): msgspec.Raw(value) for field, value in attempts.items() if field.startswith(own)}
    # A delivery that waits, or may be replayed, has no end yet, and this letter will not learn of one.
    ends = {
        name: end
        for name in targets.split(",")
        if name != target and (end := text(f"end:{name}")) in ("done", "expired", "discarded")
    }
    return StoredLetter(
        id=id,
        target=target,
        source=context.source_name,
        type=context.type,
        received_ms=received_ms(id),
        died_ms=0,
        failed=int(text(f"failed:{target}") or 0),
        why=text(f"why:{target}"),
        attempts=msgspec.json.encode(mine),
        attributes=event[b"attributes"],
        data=event[b"data"],
        body=event[b"body"],
        content_type=text("type"),
        digest=text("digest"),
        transaction_key=text("transaction"),
        ordered=text("ordered"),
        targets=targets,
        ends=msgspec.json.encode(ends),
        copies=int(text("copies") or 0),
        differing=int(text("differing") or 0),
        copy_of=text("copy_of"),
    )


def archived_record(event: ArchivedEvent, letters: Sequence[StoredLetter]) -> list[str | bytes | int | float]:
    """Return the arguments of `come_back.lua`: the record of an event, from the archive.

    `letters` are those of its dead letters that are on the disk, complete.
    """
    attempts: dict[str, bytes] = dict(event.attempts)
    fields = event.fields | {"attributes": event.attributes, "data": event.data, "body": event.body}
    fields |= {"type": event.content_type.encode()} if event.content_type != JSON else {}
    for letter in letters:
        made = msgspec.json.decode(letter.attempts, type=dict[str, msgspec.Raw])
        attempts |= {field: bytes(attempt) for field, attempt in made.items()}
        fields |= {f"why:{letter.target}": letter.why.encode()} if letter.why else {}
    args: list[str | bytes | int | float] = [event.id, len(attempts)]
    for name, value in (*attempts.items(), *fields.items()):
        args += [name, value]
    return [*args, "open", 0]


def record_of(letters: Sequence[StoredLetter]) -> list[str | bytes | int | float]:
    """Return the arguments of `come_back.lua`: the record of an event, from all its letters, complete."""
    first = letters[0]
    ends = ends_of(letters) | dict.fromkeys((letter.target for letter in letters), "disk")
    attempts: dict[str, msgspec.Raw] = {}
    for letter in letters:
        attempts |= msgspec.json.decode(letter.attempts, type=dict[str, msgspec.Raw])
    args: list[str | bytes | int | float] = [first.id, len(attempts)]
    for field, attempt in attempts.items():
        args += [field, bytes(attempt)]
    texts = {
        "type": first.content_type,
        "transaction": first.transaction_key,
        "ordered": first.ordered,
        "copies": first.copies or "",
        "differing": first.differing or "",
        "copy_of": first.copy_of,
        **{f"why:{letter.target}": letter.why for letter in letters},
        **{f"end:{target}": end for target, end in ends.items()},
    }
    args += ["attributes", first.attributes, "data", first.data, "body", first.body]
    args += ["digest", first.digest, "targets", ",".join(ends), "open", 0]
    for name, value in texts.items():
        args += [name, value] if value else []
    return args
