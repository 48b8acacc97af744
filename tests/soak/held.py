"""What the gateway holds, read from its Redis by the layout that `shared.store.keys` documents."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.event.ids import event_id
from shared.store.keys import Keys
from tests.soak.records import Held

KEYS = Keys()

READ_AT_ONCE = 500


def connect(socket: str) -> Redis:
    """Return a client that fails at once where Redis is away: a soak takes it away on purpose."""
    return Redis(unix_socket_path=socket, socket_timeout=1, retry=Retry(NoBackoff(), 0))


class Lag(msgspec.Struct, frozen=True):
    """How much is not done yet."""

    inbox: int
    due: int
    leased: int
    lanes: int

    def __bool__(self) -> bool:
        return self.inbox + self.due + self.leased + self.lanes > 0

    def __str__(self) -> str:
        return f"inbox {self.inbox}, due {self.due}, leased {self.leased}"


def lag(redis: Redis, sources: Sequence[str], targets: Sequence[str]) -> Lag:
    """Count what waits. Raises: RedisError."""
    pipe = redis.pipeline(transaction=True)
    for source in sources:
        pipe.xlen(KEYS.inbox(source))
    for target in targets:
        pipe.zcard(KEYS.due(target))
    for target in targets:
        pipe.zcard(KEYS.leased(target))
    counts: list[int] = pipe.execute()
    inboxes, sets = counts[: len(sources)], counts[len(sources) :]
    lanes = sum(1 for _ in redis.scan_iter("hr:lane:*", count=1000))
    return Lag(sum(inboxes), sum(sets[: len(targets)]), sum(sets[len(targets) :]), lanes)


def read_held(redis: Redis, sources: Sequence[str], targets: Sequence[str]) -> Held:
    """Read all of it. Raises: RedisError."""
    events = [id for key in (KEYS.open, KEYS.finished, KEYS.packed) for id in _ids(redis, key)]
    ends: dict[str, dict[str, str]] = {target: {} for target in targets}
    digests: dict[str, str] = {}
    names = ["digest", *(f"end:{target}" for target in targets)]
    for id, (digest, *ended) in _fields(redis, ((id, KEYS.event(id)) for id in events), names):
        digests[id] = digest
        for target, end in zip(targets, ended, strict=True):
            if end:
                ends[target][id] = end
    copies = ((id, KEYS.duplicate(id)) for id in _ids(redis, KEYS.duplicates))
    quarantined = ((id, KEYS.quarantined(id)) for id in _ids(redis, KEYS.quarantine))
    inboxes: dict[str, Any] = {source: redis.xrange(KEYS.inbox(source)) for source in sources}
    return Held(
        events=digests,
        duplicates={id: (of, digest) for id, (of, digest) in _fields(redis, copies, ["of", "digest"])},
        quarantined={id: digest for id, [digest] in _fields(redis, quarantined, ["digest"])},
        inbox=frozenset(
            event_id(source, entry.decode()) for source, rows in inboxes.items() for entry, _ in rows
        ),
        dead={target: frozenset(_ids(redis, KEYS.dead(target))) for target in targets},
        waiting={
            target: {
                **dict.fromkeys(_ids(redis, KEYS.due(target)), "due"),
                **dict.fromkeys(_ids(redis, KEYS.leased(target)), "leased"),
            }
            for target in targets
        },
        ends=ends,
    )


def _ids(redis: Redis, key: str) -> list[str]:
    ids: Any = redis.zrange(key, 0, -1)
    return [id.decode() for id in ids]


def _fields(
    redis: Redis, wanted: Iterable[tuple[str, str]], names: list[str]
) -> Iterator[tuple[str, list[str]]]:
    rows = iter(wanted)
    while batch := list(islice(rows, READ_AT_ONCE)):
        pipe = redis.pipeline(transaction=False)
        for _, key in batch:
            pipe.hmget(key, names)
        replies: list[list[Any]] = pipe.execute()
        for (id, _), values in zip(batch, replies, strict=True):
            yield id, [value.decode() if value else "" for value in values]
