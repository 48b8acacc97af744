"""What Redis holds, read whole, and what is wrong with it: each thing must stand in exactly one place."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from shared.event.ids import event_id
from shared.store.keys import Keys

KEYS = Keys()

ALL = ("healthy", "slow", "flaky", "failing", "gone", "ordered", "removed")
_INDEXES = (KEYS.open, KEYS.finished, KEYS.packed, KEYS.duplicates, KEYS.quarantine)


class State(NamedTuple):
    """Everything by id; sets by target."""

    inbox: set[str]
    events: dict[str, dict[str, str]]
    duplicates: dict[str, dict[str, str]]
    quarantined: dict[str, dict[str, str]]
    indexes: dict[str, set[str]]
    due: dict[str, set[str]]
    leased: dict[str, set[str]]
    dead: dict[str, set[str]]
    lanes: dict[tuple[str, str], list[str]]
    alone: dict[str, set[str]]

    @property
    def ended(self) -> bool:
        """Nothing waits for a worker any more."""
        return not (self.inbox or any(self.due.values()) or any(self.leased.values()) or self.lanes)


def read(redis: Any, sources: Iterable[str]) -> State:
    """Read the whole state. The sources' inboxes are those that the receipts are from."""

    def text(value: Any) -> str:
        return str(value.decode("utf-8", "replace"))

    def hashes(pattern: str) -> dict[str, dict[str, str]]:
        return {
            text(key).rpartition(":")[2]: {text(k): text(v) for k, v in redis.hgetall(key).items()}
            for key in redis.keys(pattern)
        }

    def members(key: str) -> set[str]:
        return {text(member) for member in redis.zrange(key, 0, -1)}

    lanes = {}
    for key in redis.keys("hr:lane:*"):
        _, _, target, transaction = text(key).split(":", 3)
        lanes[target, transaction] = [text(id) for id in redis.lrange(key, 0, -1)]
    return State(
        inbox={
            event_id(source, text(entry))
            for source in sources
            for entry, _ in redis.xrange(KEYS.inbox(source))
        },
        events=hashes("hr:event:*"),
        duplicates=hashes("hr:duplicate:*"),
        quarantined=hashes("hr:quarantined:*"),
        indexes={key: members(key) for key in _INDEXES},
        due={target: members(KEYS.due(target)) for target in ALL},
        leased={target: members(KEYS.leased(target)) for target in ALL},
        dead={target: members(KEYS.dead(target)) for target in ALL},
        lanes=lanes,
        alone={
            source: {event_id(source, text(entry)) for entry in redis.hkeys(KEYS.alone(source))}
            for source in sources
        },
    )


def _finished(state: State) -> set[str]:
    return state.indexes[KEYS.finished] | state.indexes[KEYS.packed]


def problems(state: State, receipts: set[str]) -> list[str]:
    """Return what no moment may show, however many processes have died: one line each."""
    found = []
    places = {
        "inbox": state.inbox,
        "event": set(state.events),
        "duplicate": set(state.duplicates),
        "quarantine": set(state.quarantined),
    }
    for id in receipts.union(*places.values()):
        at = [name for name, ids in places.items() if id in ids]
        if id not in receipts:
            found.append(f"{id}: nobody sent it, and it stands in {at}")
        elif len(at) != 1:
            found.append(f"{id}: a request stands in exactly one place, not in {at}")
    for index, ids in (
        (KEYS.duplicates, places["duplicate"]),
        (KEYS.quarantine, places["quarantine"]),
        ("the sets of events", places["event"]),
    ):
        listed = (
            state.indexes[index] if index in state.indexes else state.indexes[KEYS.open] | _finished(state)
        )
        if listed != ids:
            found.append(f"{index} lists others than there are: {sorted(listed ^ ids)}")
    for source, alone in state.alone.items():
        if alone - state.inbox:
            found.append(f"takes of {source} are counted that are in no inbox: {sorted(alone - state.inbox)}")
    for id, event in state.events.items():
        found += _of_event(state, id, event)
    for name, sets in (("due", state.due), ("leased", state.leased), ("dead", state.dead)):
        for target, ids in sets.items():
            for id in ids:
                if target not in state.events.get(id, {}).get("targets", "").split(","):
                    found.append(f"{id} is {name} at {target}, and is not its event")
    return found


def _of_event(state: State, id: str, event: dict[str, str]) -> list[str]:
    found = []
    targets = [name for name in event["targets"].split(",") if name]
    ends = {target: event.get(f"end:{target}") for target in targets}
    for target, end in ends.items():
        at = [name for name in ("due", "leased", "dead") if id in getattr(state, name)[target]]
        if end == "done":
            at.append("done")
        lane = state.lanes.get((target, event.get("transaction", "")), [])
        in_order = target in event.get("ordered", "").split(",")
        if in_order and lane.count(id) != (0 if end else 1):
            found.append(f"{id} for {target} (end: {end}) stands {lane.count(id)} times in its lane")
        if in_order and id in lane[1:]:
            at.append("behind another in its lane")
        if len(at) != 1:
            found.append(f"{id} for {target} stands in exactly one place, not in {at} (end: {end})")
        if (end == "dead") != ("dead" in at):
            found.append(f"{id} for {target} is a dead letter here and none there: {at} (end: {end})")
    undone = sum(end != "done" for end in ends.values())
    if int(event["open"]) != undone:
        found.append(f"{id} counts {event['open']} open deliveries, and has {undone}")
    if (id in state.indexes[KEYS.open]) == (id in _finished(state)) or (
        (id in state.indexes[KEYS.open]) != (undone > 0)
    ):
        found.append(f"{id} with {undone} open deliveries is not listed where it belongs")
    return found
