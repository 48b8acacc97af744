"""Admission: one atomic script makes an event, a duplicate or a quarantined request of each request.

Requests come from the inbox or, if an operator admits them again, from quarantine or the recorded duplicates.
A request keeps its id wherever it goes.
"""

from collections.abc import Collection, Sequence
from enum import Enum
from hashlib import sha256
from typing import Any

import msgspec

from shared.event.canonical import DedupeKey
from shared.event.ids import event_id
from shared.event.record import JSON, EventRecord
from shared.store.client import NamedCall, RedisClient
from shared.store.keys import GROUP, Keys

ADMIT_BYTES = 1024 * 1024
ADMIT_DUE = 2000
TURN_MS = 15_000


class Place(Enum):
    """The place of a request before it is admitted."""

    INBOX = "inbox"
    QUARANTINE = "quarantine"
    DUPLICATES = "duplicates"


class Entry(msgspec.Struct, frozen=True):
    """A request to admit. `takes_alone` counts how often it was taken again after a worker's death.

    `id`, made of the others, is the event's id, and the receipt in the 200.
    """

    stream_id: str
    source: str
    body: bytes
    headers: dict[str, str]
    takes_alone: int = 0
    id: str = ""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "id", event_id(self.source, self.stream_id))


class Admission(msgspec.Struct, frozen=True):
    """An entry that its adapter could read, ready for admission.

    `transaction` is what `keys.transaction` returns for its transaction; '' without one. `unknown`: no
    mapping knows its type. `in_order` names those of `targets` that get each transaction's events one after
    another.
    """

    entry: Entry
    dedupe: DedupeKey | None
    targets: Sequence[str]
    attributes: bytes
    data: bytes
    content_type: str = ""
    transaction: str = ""
    unknown: bool = False
    in_order: Collection[str] = ()

    @property
    def event(self) -> EventRecord:
        """The event, as it is stored and sent."""
        return EventRecord(
            self.entry.id, self.attributes, self.data, self.entry.body, self.content_type or JSON
        )


class Quarantine(msgspec.Struct, frozen=True):
    """An entry that its adapter could not read, and the reason."""

    entry: Entry
    code: str
    detail: str


class Outcome(msgspec.Struct, frozen=True):
    """What became of an entry: `admitted`, `quarantined`, `duplicate` (of the event `of`) or `gone`.

    `differs`: it is a duplicate with another body than the first.
    """

    entry: Entry
    what: str
    of: str = ""
    differs: bool = False


class AdmissionOptions(msgspec.Struct, frozen=True):
    """How a batch is admitted.

    Copies are recognised for `window_ms`, and their records kept for `retention_ms` (0: until they are
    archived). `fence` is the worker that must hold the source's turn, if its events are admitted in turn.
    `resend_ms`: an event whose key counts (DedupeKey.counts) is a copy, too, if the same bytes came less than
    that before.
    """

    window_ms: int
    retention_ms: int
    fence: str = ""
    resend_ms: int = 0


async def admit(
    client: RedisClient,
    place: Place,
    source: str,
    batch: Sequence[Admission | Quarantine],
    options: AdmissionOptions,
) -> list[Outcome]:
    """Admit entries of one source from one place, in as few calls as the bounds allow. Each call is all or
    nothing.

    Raises: StoreUnavailable. What an earlier call admitted stays so, and the rest is where it was.
    """
    outcomes: list[Outcome] = []
    for part in parts(batch):
        reply = await client.run(*admit_call(client.keys, place, source, part, options))
        outcomes += outcomes_of(part, reply)
    return outcomes


def admit_call(
    keys: Keys, place: Place, source: str, part: Sequence[Admission | Quarantine], options: AdmissionOptions
) -> NamedCall:
    """Return the call that admits one of the `parts` of a batch."""
    head: list[str | bytes | int | float] = [source]
    head += [options.window_ms, options.resend_ms, options.retention_ms]
    requests = [argument for item in part for argument in _arguments(item)]
    if place is not Place.INBOX:
        copies = part if place is Place.DUPLICATES else []
        bodies = [value for item in copies for value in (item.entry.id, item.entry.body)]
        return "readmit", [], [*head, place.value, len(copies), *bodies, *requests]
    inbox = [keys.inbox(source), keys.alone(source), keys.turn(source)]
    return "admit", inbox, [*head, GROUP, options.fence, TURN_MS, *requests]


def outcomes_of(part: Sequence[Admission | Quarantine], reply: Sequence[Any]) -> list[Outcome]:
    """Return the outcomes of the entries from the call's reply, which names those that were not admitted."""
    outcomes = [Outcome(item.entry, "admitted") for item in part]
    for place, what, of, differs in zip(reply[::4], reply[1::4], reply[2::4], reply[3::4], strict=True):
        outcomes[place] = Outcome(part[place].entry, what.decode(), of.decode(), bool(differs))
    return outcomes


def parts(batch: Sequence[Admission | Quarantine]) -> list[list[Admission | Quarantine]]:
    """Split a batch so that no call holds Redis for long: 300 events with 100 targets each took 65 ms."""
    divided: list[list[Admission | Quarantine]] = []
    size = due = 0
    for item in batch:
        item_due = len(item.targets) if isinstance(item, Admission) else 0
        item_size = len(item.entry.body)
        if isinstance(item, Admission):
            item_size += len(item.attributes) + len(item.data)
        if not divided or size + item_size > ADMIT_BYTES or due + item_due > ADMIT_DUE:
            divided.append([])
            size = due = 0
        divided[-1].append(item)
        size += item_size
        due += item_due
    return divided


def _digest(content: bytes) -> bytes:
    # Half of SHA-256 is enough to keep any two apart, and each event keeps it for a week.
    return sha256(content).digest()[:16]


def _arguments(item: Admission | Quarantine) -> list[str | bytes | int | float]:
    entry = item.entry
    digest = _digest(entry.body)
    dedupe = item.dedupe if isinstance(item, Admission) else None
    head: list[str | bytes | int | float] = [
        entry.stream_id,
        entry.id,
        # The letter keeps keys of parts apart from digests of bodies.
        b"k" + _digest(msgspec.json.encode(dedupe.parts)) if dedupe else b"b" + digest,
        _digest(dedupe.counts.encode()).hex() if dedupe and dedupe.counts else "",
        _digest(dedupe.raises.encode()).hex() if dedupe and dedupe.raises else "",
        digest.hex(),
    ]
    if isinstance(item, Quarantine):
        return [*head, "quarantine", item.code, item.detail, msgspec.json.encode(entry.headers), "", "", ""]
    ordered = [name for name in item.targets if name in item.in_order] if item.transaction else []
    head += ["event", ",".join(item.targets), item.attributes, item.data]
    return [*head, item.content_type, item.transaction, f",{','.join(ordered)}," if ordered else ""]
