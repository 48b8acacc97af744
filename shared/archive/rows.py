"""What stands of an event in which columns."""

import hmac
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from shared.archive.event import ArchivedCopy, ArchivedEvent, Known
from shared.archive.search import same
from shared.event.canonical import Money
from shared.event.ids import received_ms
from shared.event.record import SOURCE_PREFIX, Shown

UNMATCHED = "unmatched"
"""The state of the one row in `deliveries` of an event that went to no target."""

_IN_REDIS = {"disk": "dead"}
"""The states that are called otherwise in Redis."""


class _Data(Shown, frozen=True):
    parties: dict[str, str] = msgspec.field(default_factory=dict)


class _Attributes(msgspec.Struct, frozen=True):
    source: str
    type: str


class _Attempt(msgspec.Struct, frozen=True):
    n: int
    at_ms: int
    duration_ms: float
    status: int | None = None
    error: str = ""


_data = msgspec.json.Decoder(_Data).decode
_attributes = msgspec.json.Decoder(_Attributes).decode
_attempt = msgspec.json.Decoder(_Attempt).decode

Row = dict[str, Any]


class Rows(msgspec.Struct, frozen=True):
    """The rows of one event, by table. `parties`: role → name."""

    event: Row
    deliveries: list[Row]
    attempts: list[Row]
    parties: dict[str, str]


def rows_of(event: ArchivedEvent) -> Rows:
    """Return the rows of an event, but for its payload and the hashes of its parties.

    Raises: msgspec.MsgspecError if the event is damaged.
    """
    attributes, data = _attributes(event.attributes), _data(event.data)
    shown = {name: getattr(data, name) for name in Shown.__struct_fields__ if name != "money"}
    row = {
        "id": event.id,
        "received_ms": received_ms(event.id),
        "source": attributes.source.removeprefix(SOURCE_PREFIX),
        "type": attributes.type,
        **shown,
        "amount": data.money and data.money.amount_minor,
        "currency": data.money and data.money.currency,
        "targets": event.text("targets"),
        "copies": int(event.text("copies") or 0),
        "differing": int(event.text("differing") or 0),
        "copy_of": event.text("copy_of") or None,
        "digest": event.text("digest"),
    }
    return Rows(row, _deliveries(event), _attempts(event), data.parties)


def _deliveries(event: ArchivedEvent) -> list[Row]:
    ends = event.ends or {"": UNMATCHED}
    return [
        {
            "id": event.id,
            "target": target,
            "state": _IN_REDIS.get(end, end),
            "failed": int(event.text(f"failed:{target}") or 0),
            "reason": event.text(f"why:{target}").partition(" ")[0],
        }
        for target, end in ends.items()
    ]


def _attempts(event: ArchivedEvent) -> list[Row]:
    rows = []
    for field, value in event.attempts.items():
        target, _, lease = field.partition(" ")
        attempt = _attempt(value)
        rows.append(
            {
                "id": event.id,
                "target": target,
                "lease": int(lease),
                "n": attempt.n,
                "at_ms": attempt.at_ms,
                "duration_ms": attempt.duration_ms,
                "status": attempt.status,
                "error": error_word(attempt.error) or None,
            }
        )
    return rows


def error_word(error: str) -> str:
    """Return the word that an attempt's error begins with: `timeout`, `dns`, `connect` and the like."""
    return error.partition(":")[0]


def copy_row(copy: ArchivedCopy) -> Row:
    """Return the row of a suppressed copy, but for its payload."""
    return {
        "id": copy.id,
        "source": copy.source,
        "copy_of": copy.copy_of,
        "differs": copy.differs,
        "late": copy.differs is None,
        "digest": copy.digest,
    }


def known_of(row: Mapping[str, Any], states: Mapping[str, str], late: Sequence[bool | None]) -> Known:
    """Return an event as a listing shows it, from its row and the states of its deliveries.

    `late` has, for each copy that came after the event had left Redis, whether its body differs.
    """
    money = None if row["amount"] is None else Money(row["amount"], row["currency"])
    shown = {name: row[name] for name in Shown.__struct_fields__ if name != "money"}
    return Known(
        id=row["id"],
        source=row["source"],
        type=row["type"],
        shown=Shown(**shown, money=money),
        copies=row["copies"] + len(late),
        differing=row["differing"] + sum(map(bool, late)),
        copy_of=row["copy_of"],
        # The state of one that went to no target is under no name: see UNMATCHED.
        deliveries={
            target: states[target] for target in row["targets"].split(",") if target and target in states
        },
    )


def party_hash(key: bytes, party: str) -> str:
    """Return what stands for a party in the archive, whichever way it is written."""
    return hmac.new(key, same(party).encode(), sha256).hexdigest()[:32]
