"""Redis' layout (shared/store/keys.py), read back; and what it must be for a model, key by key."""

from collections.abc import Callable, Sequence
from typing import Any

from shared.event.ids import event_id, received_ms
from tests.dedupe import dedupe_keys
from tests.faults.model.records import Delivery, Event, Kept, State, World
from tests.packed import unpacked

Layout = dict[str, Any]
"""By key: of a hash its fields, of a sorted set its members' scores, of a list its items; of an inbox its ids
with who took them; all as text and numbers."""

# Kept as given, or written for people: no state of the store's own.
_FIELDS_LEFT_OUT = {"attributes", "data", "digest", "headers", "detail", "reason", "state_since"}
_COUNTS_OF_TARGETS = {"hour", "done", "failed", "done_before", "failed_before", "last_error", "last_failed"}
_BREAKER = {"failures", "failing_since", "trips", "open_until"}  # never opens here


def read(rows: Sequence[Any], holds: Callable[[int], bool]) -> Layout:
    """Read a snapshot. Of the dedupe keys and counters, whose names are digests, only the values are compared.

    `holds` tells whether a key that is held since some time still is: others need not have been removed yet.
    """
    layout: Layout = {"hr:dedupe": [], "hr:count": []}
    packed: dict[str, list[str]] = {}
    for raw, kind, value in rows:
        key = raw.decode()
        kind_of_key = ":".join(key.split(":")[:2])
        if kind_of_key in ("hr:rung", "hr:audit", "hr:unknown"):
            continue
        if kind_of_key == "hr:dedupe":
            held = dedupe_keys(key, value[1::2]) if kind == b"hash" else []
            layout[kind_of_key] += [id for id, since in held if holds(since)]
        elif kind_of_key == "hr:count":
            layout[kind_of_key].append(value.decode())
        elif kind == b"stream":
            source, takers = key.removeprefix("hr:inbox:"), {row[0]: row[1].decode() for row in value[1]}
            layout[key] = {event_id(source, id.decode()): takers.get(id) for id, _ in value[0]}
        elif kind == b"zset":
            layout[key] = {id.decode(): int(score) for id, score in _pairs(value)}
        elif kind == b"hash":
            fields = dict(_pairs(value))
            if kind_of_key == "hr:event":
                id = key.removeprefix("hr:event:")
                fields, packed[f"hr:attempts:{id}"] = unpacked(id, fields)
            layout[key] = _fields(
                kind_of_key, {name.decode(): text.decode() for name, text in fields.items()}
            )
        else:
            layout[key] = [item.decode() for item in value] if kind in (b"list", b"set") else value.decode()
            if kind == b"set":
                layout[key].sort()
    # What is packed is as if it were not; but it is in one of the two sets, and each of its attempts once.
    for key, attempts in packed.items():
        layout[key] = sorted([*attempts, *layout.get(key, [])])
    finished = layout.setdefault("hr:finished", {})
    for id, received in layout.pop("hr:packed", {}).items():
        finished[id] = "twice" if id in finished else received
    return _without_nothing(layout)


def _pairs(flat: Sequence[Any]) -> list[tuple[Any, Any]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _fields(kind: str, fields: dict[str, str]) -> Any:
    if kind == "hr:attempts":
        return sorted(fields)
    left_out = _FIELDS_LEFT_OUT
    if kind == "hr:target":
        left_out = left_out | _COUNTS_OF_TARGETS | _BREAKER
    return {name: text for name, text in fields.items() if name not in left_out and text not in ("", "0")}


def _without_nothing(layout: Layout) -> Layout:
    """Redis keeps no empty set: so what is empty is as if it were not."""
    layout["hr:dedupe"], layout["hr:count"] = sorted(layout["hr:dedupe"]), sorted(layout["hr:count"])
    return {key: value for key, value in layout.items() if value}


def expected(world: World, holds: Callable[[int], bool]) -> Layout:
    """Return what Redis must hold. Fields that are `0` or empty are left out, as they may be absent."""
    layout: Layout = {
        "hr:dedupe": [holder for holder, since in world.keys.values() if holds(since)],
        "hr:count": [str(count) for count, _ in world.counters.values()],
        "hr:open": {e.id: e.received for e in world.events.values() if e.open},
        "hr:finished": {e.id: e.received for e in world.events.values() if not e.open},
        "hr:quarantine": {q.id: q.received for q in world.quarantine.values()},
        "hr:duplicates": {id: received_ms(id) for id in world.copy_index},
        "hr:targets": world.on_record,
    }
    for source, entries in world.inbox.items():
        layout[f"hr:inbox:{source}"] = {entry.id: entry.consumer for entry in entries.values()}
        layout[f"hr:alone:{source}"] = {_entry_id(e.id): str(e.alone) for e in entries.values() if e.alone}
    for source, (holder, _) in world.turns.items():
        layout[f"hr:turn:{source}"] = holder
    for name, target in world.targets.items():
        layout[f"hr:target:{name}"] = {"state": target.state} if target.state != "active" else {}
    for (target_name, transaction), lane in world.lanes.items():
        layout[f"hr:lane:{target_name}:{transaction}"] = lane
    for target_name, transaction in world.held:
        layout.setdefault(f"hr:held:{target_name}", []).append(transaction)
        layout[f"hr:held:{target_name}"].sort()
    for event in world.events.values():
        layout[f"hr:event:{event.id}"] = _event(event)
        if event.transaction:
            layout.setdefault(f"hr:transaction:{event.transaction}", {})[event.id] = event.received
        for name, delivery in event.deliveries.items():
            place = _PLACES.get(delivery.state)
            if place and delivery.at is not None:
                layout.setdefault(f"hr:{place}:{name}", {})[event.id] = delivery.at
        layout[f"hr:attempts:{event.id}"] = sorted(
            f"{name} {token}" for name, delivery in event.deliveries.items() for token in delivery.attempts
        )
    for held in world.quarantine.values():
        layout[f"hr:quarantined:{held.id}"] = _kept(held) | {"source": held.source, "code": held.code}
    for copy in world.copies.values():
        fields = {"of": copy.of, "source": copy.source}
        fields |= {"body": copy.body.decode()} if copy.own_body else {}
        layout[f"hr:duplicate:{copy.id}"] = fields | ({"differs": "1"} if copy.differs else {})
    return _without_nothing(layout)


_PLACES = {State.WAITING: "due", State.LEASED: "leased", State.DEAD: "dead"}


def _entry_id(id: str) -> str:
    return f"{received_ms(id)}-{int(id[23:], 16)}"


def _kept(kept: Kept) -> dict[str, str]:
    fields = {"body": kept.body.decode(), "copies": str(kept.copies), "differing": str(kept.differing)}
    return {name: text for name, text in fields.items() if text != "0"}


def _event(event: Event) -> dict[str, str]:
    fields = _kept(event) | {"targets": ",".join(event.deliveries), "open": str(event.open)}
    fields |= {"transaction": event.transaction, "copy_of": event.copy_of}
    if event.ordered:
        fields["ordered"] = f",{','.join(event.ordered)},"
    for name, delivery in event.deliveries.items():
        fields |= _delivery(name, delivery)
    return {name: text for name, text in fields.items() if text not in ("", "0")}


def _delivery(name: str, delivery: Delivery) -> dict[str, str]:
    ended = delivery.state not in (State.WAITING, State.LEASED)
    return {
        f"end:{name}": delivery.state.value if ended else "",
        f"failed:{name}": str(delivery.failed),
        f"lapsed:{name}": str(delivery.lapsed),
        f"age:{name}": str(delivery.age_ms),
        f"why:{name}": delivery.why,
    }


def differences(is_so: Layout, should_be: Layout) -> str:
    """Say key by key what is not as it should be; '' where all is."""
    return "\n".join(
        f"{key}: is {is_so.get(key)!r}, should be {should_be.get(key)!r}"
        for key in sorted({*is_so, *should_be})
        if is_so.get(key) != should_be.get(key)
    )
