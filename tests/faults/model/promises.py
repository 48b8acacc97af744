"""What holds of the store at every moment, whatever was done to it: read off Redis alone, with no model's help."""

from collections.abc import Collection, Iterator, Mapping

from tests.faults.model.layout import Layout
from tests.faults.model.letters import Route

PLACES = ("due", "leased", "dead")


def broken(
    layout: Layout,
    accepted: Collection[str],
    let_go: Collection[str],
    routes: Mapping[str, Route],
    archived: Collection[str],
) -> str:
    """Say which promise is broken, and where; '' for none."""
    return "\n".join(
        [
            *_each_in_one_place(layout, accepted, let_go, archived),
            *_deliveries(layout),
            *_counts(layout),
            *_nothing_of_nobody(layout),
            *_concurrency(layout, routes),
            *_held(layout),
        ]
    )


def _events(layout: Layout) -> Iterator[tuple[str, dict[str, str]]]:
    for key, fields in layout.items():
        if key.startswith("hr:event:"):
            yield key.removeprefix("hr:event:"), fields


def _each_in_one_place(
    layout: Layout, accepted: Collection[str], let_go: Collection[str], archived: Collection[str]
) -> Iterator[str]:
    """Each is in one place in Redis, or let go; in none only if it is archived."""
    inboxes = [key for key in layout if key.startswith("hr:inbox:")]
    for id in accepted:
        found = [key for key in inboxes if id in layout[key]]
        found += [
            key for kind in ("event", "quarantined", "duplicate") if (key := f"hr:{kind}:{id}") in layout
        ]
        if not found and id in archived:
            continue
        if len(found) != (0 if id in let_go else 1):
            yield f"{id} is in {found or 'no place'}{', let go' if id in let_go else ''}"


def _deliveries(layout: Layout) -> Iterator[str]:
    """Each delivery is waiting, leased, behind another in its lane, dead, done or expired; and one of these."""
    for id, fields in _events(layout):
        for target in _targets(fields):
            end = fields.get(f"end:{target}")
            found = [place for place in PLACES if id in layout.get(f"hr:{place}:{target}", {})]
            lane = layout.get(f"hr:lane:{target}:{fields.get('transaction')}", [])
            if lane.count(id) > 1:
                yield f"{id} is twice in the lane of {target}"
            if end is None and not found and id in lane[1:]:
                continue
            should_be = {"done": [], "expired": [], "dead": ["dead"]}.get(end or "")
            if found != should_be if should_be is not None else found not in (["due"], ["leased"]):
                yield f"{id} for {target} ended as {end} and is in {found}, its lane {lane}"
            if end is None and lane and id in lane[1:]:
                yield f"{id} for {target} is {found} although {lane[0]} goes before it"


def _counts(layout: Layout) -> Iterator[str]:
    for id, fields in _events(layout):
        open_ = sum(fields.get(f"end:{target}") not in ("done", "expired") for target in _targets(fields))
        if int(fields.get("open", 0)) != open_:
            yield f"{id} has {open_} open deliveries and says {fields.get('open', 0)}"
        for name, wanted in (("hr:open", open_ > 0), ("hr:finished", open_ == 0)):
            if (id in layout.get(name, {})) != wanted:
                yield f"{id} with {open_} open deliveries is {'not ' if wanted else ''}in {name}"


def _nothing_of_nobody(layout: Layout) -> Iterator[str]:
    """Every set and lane holds only deliveries that there are."""
    events = dict(_events(layout))
    for key, ids in layout.items():
        kind = key.split(":")[1]
        if kind in (*PLACES, "lane"):
            for id in ids:
                if id not in events or key.split(":")[2] not in _targets(events[id]):
                    yield f"{key} holds {id}, which is no delivery"


def _held(layout: Layout) -> Iterator[str]:
    """What a dead letter holds is on record, and nothing else is."""
    events = dict(_events(layout))
    for key, lane in layout.items():
        if key.startswith("hr:lane:"):
            _, _, target, transaction = key.split(":", 3)
            dead = events.get(lane[0], {}).get(f"end:{target}") == "dead"
            if dead != (transaction in layout.get(f"hr:held:{target}", [])):
                yield f"{key} begins with {lane[0]}, dead: {dead}, and hr:held:{target} says otherwise"
    for key, transactions in layout.items():
        if key.startswith("hr:held:"):
            target = key.removeprefix("hr:held:")
            for transaction in transactions:
                if f"hr:lane:{target}:{transaction}" not in layout:
                    yield f"{key} holds {transaction}, which has no lane"


def _concurrency(layout: Layout, routes: Mapping[str, Route]) -> Iterator[str]:
    for name, route in routes.items():
        if len(layout.get(f"hr:leased:{name}", {})) > route.concurrency:
            yield f"more than {route.concurrency} leased of {name}"


def _targets(fields: Mapping[str, str]) -> list[str]:
    return [name for name in fields.get("targets", "").split(",") if name]
