"""Reads the events of one transaction, by the index that admission writes."""

from collections.abc import Sequence
from typing import Any

import msgspec

from shared.event.canonical import Money
from shared.event.ids import received_ms
from shared.event.record import Shown
from shared.event.timeline import Happened
from shared.event.times import rfc3339_ms
from shared.store import keys
from shared.store.client import RedisClient, translated
from shared.store.context import Context
from shared.store.events import read_fields

AT_ONCE = 50  # `data` may be as large as a body

_FIELDS = ["attributes", "data", "copies", "differing", "copy_of"]


class _Attributes(Context, frozen=True):
    """What an event is about, and when it occurred."""

    time: str | None = None


class _Details(msgspec.Struct, frozen=True):
    balance: Any = None


class _Data(Shown, frozen=True):
    """The part of `data` that a timeline needs; it names nobody."""

    details: _Details = _Details()


_attributes = msgspec.json.Decoder(_Attributes).decode
_data = msgspec.json.Decoder(_Data).decode


class Transactions:
    """What the store holds of transactions."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._keys = client.keys

    async def events(self, provider: str, transaction_id: str, source: str | None = None) -> list[Happened]:
        """Return the events of a transaction that are kept, in order of receipt.

        `source` is given if ids of this provider mean something only within their source.

        Raises: StoreUnavailable.
        """
        redis: Any = self._client.redis
        with translated():
            pipe = redis.pipeline(transaction=False)
            for index in indexes(provider, transaction_id, source):
                pipe.zrange(self._keys.transaction_index(index), 0, -1)
            found_in = await pipe.execute()
        ids = sorted((id.decode() for ids in found_in for id in ids), key=received_ms)
        found: list[Happened] = []
        for start in range(0, len(ids), AT_ONCE):
            part = ids[start : start + AT_ONCE]
            replies = await read_fields(self._client, [(id, _FIELDS) for id in part])
            for id, reply in zip(part, replies, strict=True):
                # One without attributes is gone: retention came between.
                if reply[0] is not None and (event := happened(id, reply, provider, transaction_id, source)):
                    found.append(event)
        return found


def indexes(provider: str, transaction_id: str, source: str | None) -> list[str]:
    """Return the names of the indexes that may have a transaction's events: the ends of their keys.

    An earlier version, which did not tell sources apart, wrote the provider's index.
    """
    return sorted({keys.transaction(provider, transaction_id, scope) for scope in (None, source)})


def happened(
    id: str, fields: Sequence[Any], provider: str, transaction_id: str, source: str | None
) -> Happened | None:
    """Return what a timeline needs of an event; None if it is of another transaction.

    `fields` are its attributes, data, copies, differing and copy_of.
    """
    attributes, data = _attributes(fields[0]), _data(fields[1])
    if (data.provider, data.transaction_id) != (provider, transaction_id):
        return None
    if source not in (None, attributes.source_name):
        return None
    copies, differing, copy_of = fields[2:]
    return Happened(
        id=id,
        source=attributes.source_name,
        type=attributes.type,
        received_at=rfc3339_ms(received_ms(id)),
        time=attributes.time,
        provider_event=data.provider_event,
        payment_id=data.payment_id,
        money=data.money,
        status=data.status,
        provider_status=data.provider_status,
        balance=_balance(data.details.balance),
        copies=int(copies or 0),
        differing=int(differing or 0),
        copy_of=copy_of.decode() if copy_of else None,
    )


def _balance(value: Any) -> Money | None:
    try:
        return msgspec.convert(value, type=Money | None)
    except msgspec.ValidationError:
        return None  # another kind of provider may use `balance` for something else
