"""What holds after every case: I1 nothing is lost, I2 no copy delivered, I3 nothing leaks, I4 no wrong dial.

Held against what others saw: the sink's own record of deliveries, the receipts that providers got, and the
connections that the processes opened.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import sqlalchemy
import sqlalchemy.pool
from click.testing import CliRunner
from redis import Redis
from redis.exceptions import RedisError

from shared.archive.event import ArchivedCopy, ArchivedEvent, copy_of, event_of
from shared.cli import cli
from tests.acceptance.sink import Sink
from tests.packed import finished, unpacked

AT_ONCE = 1000
CHAIN = 8


class Receipt(NamedTuple):
    """A 200: what was sent (None if that is not known), and the id that came back."""

    id: str
    provider: str
    body: bytes | None


class Record:
    """What Redis and the archive, if there is one, say became of everything, read once."""

    def __init__(self, redis: Redis, archive_url: str = "") -> None:
        self.redis = redis
        self.dead = _by_target(redis, "hr:dead:*")
        self.duplicates = _firsts(redis, members(redis, "hr:duplicates"))
        self.quarantined = set(members(redis, "hr:quarantine"))
        self.digests = _digests(redis, "hr:duplicate", self.duplicates)
        self.digests |= _digests(redis, "hr:quarantined", self.quarantined)
        self.bodies: dict[str, bytes] = {}
        self.events: dict[str, dict[str, str]] = {}
        ids = [*members(redis, "hr:open"), *finished(redis)]
        for some in _batches(ids):
            pipe = redis.pipeline(transaction=False)
            for id in some:
                pipe.hgetall(f"hr:event:{id}")
                pipe.hkeys(f"hr:attempts:{id}")
            replies: list[Any] = pipe.execute()
            for id, fields, attempts in zip(some, replies[::2], replies[1::2], strict=True):
                fields, packed = unpacked(id, fields)  # noqa: PLW2901
                kept = {k.decode(): v.decode("utf-8", "replace") for k, v in fields.items()}
                made = Counter(
                    attempt.split(" ")[0] for attempt in {*packed, *(name.decode() for name in attempts)}
                )
                self.events[id] = kept | {f"attempts:{name}": str(count) for name, count in made.items()}
                self.digests[id] = kept.get("digest", "")
                self.bodies[id] = fields.get(b"body", b"")
        self.archived: set[str] = set()
        if archive_url:
            self._read_archive(archive_url)  # after Redis: what moves meanwhile is in one of them

    def _read_archive(self, url: str) -> None:
        events, copies = archived(url)
        self.archived = {event.id for event in events}
        for event in events:
            if event.id in self.events:  # Redis's word holds
                continue
            made = Counter(attempt.split(" ")[0] for attempt in event.attempts)
            self.events[event.id] = {
                "attributes": event.attributes.decode(),
                **{name: value.decode("utf-8", "replace") for name, value in event.fields.items()},
                **{f"attempts:{name}": str(count) for name, count in made.items()},
            }
            self.digests[event.id] = event.fields["digest"].decode()
            self.bodies[event.id] = event.body
        for copy in copies:
            self.duplicates.setdefault(copy.id, copy.copy_of)
            self.digests.setdefault(copy.id, copy.digest)

    def targets(self, id: str) -> list[str]:
        """The targets that an event matched."""
        return [name for name in self.events[id]["targets"].split(",") if name]

    def lost(
        self,
        id: str,
        delivered: Mapping[str, Collection[str]],
        everyone: Collection[str],
        waiting: Collection[str] = (),
    ) -> str:
        """Return '' where a receipt is accounted for, else what is missing."""
        for _ in range(CHAIN):
            if id in self.events:
                # A handshake is nobody's business; all else goes to every target without conditions.
                wanted = {*self.targets(id)}
                if '"source.handshake"' not in self.events[id]["attributes"]:
                    wanted |= {*everyone}
                wanted -= {*waiting}
                missing = [name for name in wanted if not self._ended(id, name, delivered)]
                return f"{id} did not reach {missing}" if missing else ""
            if id in self.quarantined:
                return ""
            if id not in self.duplicates:
                return f"{id} is nowhere"
            id = self.duplicates[id]
        return f"{id} is a copy of a copy without end"

    def changed(self, receipt: Receipt) -> str:
        """Return '' if what is kept of a receipt is what was sent, else what is wrong."""
        if receipt.body is None or receipt.id not in self.digests:
            return ""
        if self.digests[receipt.id] != sha256(receipt.body).hexdigest()[:32]:
            return f"{receipt.id} is kept with another body than {receipt.body[:60]!r}"
        if self.bodies.get(receipt.id, receipt.body) != receipt.body:
            return f"{receipt.id} is kept with another body than its digest says"
        return ""

    def _ended(self, id: str, target: str, delivered: Mapping[str, Collection[str]]) -> bool:
        if target in delivered:
            return id in delivered[target] or id in self.dead.get(target, ())
        # No target of the sink's: the gateway's own word.
        return self.events[id].get(f"end:{target}") in ("done", "dead", "expired")


def archived(url: str) -> tuple[list[ArchivedEvent], list[ArchivedCopy]]:
    """Return all events and copies in an archive."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
    with engine.connect() as connection:
        if not sqlalchemy.inspect(connection).get_table_names():
            return [], []
        found = [
            connection.execute(sqlalchemy.text(f"SELECT id, payload FROM {table}")).all()  # noqa: S608
            if sqlalchemy.inspect(connection).has_table(table)
            else []
            for table in ("events", "copies")
        ]
    return [event_of(*row) for row in found[0]], [copy_of(*row) for row in found[1]]


def settled(redis: Redis, *, but: Collection[str] = ()) -> bool:
    """Tell whether nothing is on its way any more, but to the targets `but`."""
    try:
        inboxes = [redis.xlen(key) for key in redis.keys("hr:inbox:*")]
        # At one moment: between two looks, a delivery would go from where was not looked yet to where was.
        pipe = redis.pipeline(transaction=True)
        pipe.keys("hr:due:*")
        pipe.keys("hr:leased:*")
        ways: list[bytes] = [key for keys in pipe.execute() for key in keys]
        return not any(inboxes) and not [k for k in ways if k.decode().split(":", 2)[2] not in but]
    except (RedisError, OSError):
        return False


def nothing_is_lost(
    record: Record,
    delivered: Mapping[str, Collection[str]],
    receipts: Iterable[Receipt],
    everyone: Collection[str],
    waiting: Collection[str],
) -> None:
    """I1: every receipt is delivered to each target, or a dead letter, or in quarantine, or a duplicate;
    and what is kept of it is what was sent.

    `delivered` says what the sink got, by target; `everyone` are the targets that every event is for,
    `waiting` those that need not have it yet.
    """
    receipts = list(receipts)
    lost = [why for receipt in receipts if (why := record.lost(receipt.id, delivered, everyone, waiting))]
    assert not lost, f"{len(lost)} lost: {lost[:5]}"
    changed = [why for receipt in receipts if (why := record.changed(receipt))]
    assert not changed, f"{len(changed)} changed: {changed[:5]}"


def deliveries_hold_what_was_sent(sink: Sink, receipts: Iterable[Receipt]) -> None:
    """I1, to its end: the provider's JSON is in each delivery, byte for byte, whatever the format.

    So the configuration may redact nothing of what was sent.
    """
    bodies = {receipt.id: receipt.body.strip() for receipt in receipts if receipt.body is not None}
    changed = [each.id for each in sink.deliveries if bodies.get(each.id, b"") not in each.body]
    assert not changed, f"{len(changed)} were delivered with another body: {changed[:5]}"


def no_copy_is_delivered(record: Record, sink: Sink, *, handed_back: int, bodies_recur: bool) -> None:
    """I2: a request that repeats an event already held creates no delivery."""
    if not bodies_recur:
        # An id says the source; the digest says the body.
        same = Counter((id[15:23], event["digest"]) for id, event in record.events.items())
        twice = [key for key, count in same.items() if count > 1]
        assert not twice, f"{len(twice)} bodies were admitted more than once"
    for target in {delivery.target for delivery in sink.deliveries}:
        for id, count in sink.counts(target).items():
            assert id in record.events, f"{target} got {id}, which is no event"
            event = record.events[id]
            # Sent more often than there are attempts on record: each time a worker died with it in hand.
            reasons = int(event.get(f"attempts:{target}", 0)) + int(event.get(f"lapsed:{target}", 0))
            assert count <= reasons + handed_back, f"{target} got {id} {count} times, for {reasons} reasons"


def nothing_leaks(said: Mapping[str, str], canaries: Iterable[str]) -> None:
    """I3: no canary in what was logged, answered, rung or listed."""
    for canary in canaries:
        where = [place for place, text in said.items() if canary in text]
        assert not where, f"{canary!r} in {where}"


def listings(config: str, receipt: str | None) -> dict[str, str]:
    """What every command says that lists, without being asked for a payload."""
    commands = [["events"], ["events", "--duplicates"], ["dead-letters"], ["quarantine"], ["targets"]]
    commands += [["deliveries", receipt]] if receipt else []
    said = {}
    for command in commands:
        for extra in ([], ["--json"]):
            done = CliRunner().invoke(cli, [*command, *extra, "--config", config], prog_name="headrace")
            said[" ".join([*command, *extra])] = done.stdout + done.stderr
    return said


def only_allowed_are_dialled(
    connects: Iterable[str], allowed: Collection[int], used: Collection[int]
) -> None:
    """I4: connections went to allowed ports of this machine only; those to the ports in use are on record."""
    dialled = set()
    for line in connects:
        host, port = line.split(" ")
        assert host in ("127.0.0.1", "::1"), f"a connection to {host}"
        assert int(port) in allowed, f"a connection to {host} port {port}"
        dialled.add(int(port))
    assert dialled >= {*used}, "what writes connections down does not see those that there were"


def members(redis: Redis, key: str) -> list[str]:
    """The members of a sorted set, in its order."""
    ids: list[Any] = redis.zrange(key, 0, -1)
    return [id.decode() for id in ids]


def _by_target(redis: Redis, pattern: str) -> dict[str, set[str]]:
    found: list[Any] = redis.keys(pattern)
    return {key.decode().split(":", 2)[2]: {*members(redis, key.decode())} for key in found}


def _firsts(redis: Redis, copies: Sequence[str]) -> dict[str, str]:
    """Of each copy: what it is a copy of."""
    firsts: dict[str, str] = {}
    for some in _batches(copies):
        pipe = redis.pipeline(transaction=False)
        for id in some:
            pipe.hget(f"hr:duplicate:{id}", "of")
        firsts |= {id: (of or b"").decode() for id, of in zip(some, pipe.execute(), strict=True)}
    return firsts


def _digests(redis: Redis, kind: str, ids: Iterable[str]) -> dict[str, str]:
    """Of each record of a kind: its body's digest."""
    found: dict[str, str] = {}
    for some in _batches(list(ids)):
        pipe = redis.pipeline(transaction=False)
        for id in some:
            pipe.hget(f"{kind}:{id}", "digest")
        found |= {id: (digest or b"").decode() for id, digest in zip(some, pipe.execute(), strict=True)}
    return found


def _batches(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[at : at + AT_ONCE] for at in range(0, len(ids), AT_ONCE))
