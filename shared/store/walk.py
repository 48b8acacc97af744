"""Walks sorted sets in pages: a million records need no more memory than a few hundred."""

from collections.abc import AsyncIterator, Sequence

import msgspec

from shared.store.client import RedisClient, translated

PAGE = 500

Position = tuple[int, str]


class Span(msgspec.Struct, frozen=True):
    """A range of scores, which are times: milliseconds since 1970 by Redis's clock, both ends included."""

    since_ms: int
    until_ms: int


ALWAYS = Span(0, 2**53)  # the largest whole number that a score holds exactly


class Member(msgspec.Struct, frozen=True):
    """One member of one of the sets that are walked."""

    key: str
    id: str
    ms: int

    @property
    def position(self) -> Position:
        """Its position in the walk: Redis orders a sorted set by score and then by member."""
        return self.ms, self.id


async def walk(
    client: RedisClient, keys: Sequence[str], span: Span, *, newest_first: bool, page: int = PAGE
) -> AsyncIterator[list[Member]]:
    """Yield what the sets hold within `span`, merged in order, about `page` members of each at a time.

    All sets are read in one transaction and the walk remembers only its position, so a member that moves from
    one of them to another at the same score meanwhile is yielded once: neither missed nor doubled. Members
    that are removed or added behind the walk do not disturb it. Raises: StoreUnavailable.
    """
    here: Position | None = None
    count = page
    while keys:
        low, high = span.since_ms, span.until_ms
        if here is not None:
            low, high = (low, here[0]) if newest_first else (here[0], high)
        replies = await _read(client, keys, low, high, count, newest_first=newest_first)
        # If a page is full, its set may have more members after the last one that was read.
        ends = [reply[-1].position for reply in replies if len(reply) == count]
        edge = (max(ends) if newest_first else min(ends)) if ends else None
        members = [
            member
            for reply in replies
            for member in reply
            if _past(member.position, here, newest_first=newest_first)
            and (edge is None or not _past(member.position, edge, newest_first=newest_first))
        ]
        if members:
            members.sort(key=lambda member: member.position, reverse=newest_first)
            yield members
        if edge is None:
            return
        if members:
            here = edge
        else:
            count *= 2  # the page is full of members of one millisecond, and all were seen before


async def _read(
    client: RedisClient, keys: Sequence[str], low: int, high: int, count: int, *, newest_first: bool
) -> list[list[Member]]:
    with translated():
        pipe = client.redis.pipeline(transaction=True)
        for key in keys:
            if newest_first:
                pipe.zrevrangebyscore(key, high, low, start=0, num=count, withscores=True)
            else:
                pipe.zrangebyscore(key, low, high, start=0, num=count, withscores=True)
        replies = await pipe.execute()
    return [
        [Member(key, id.decode(), int(ms)) for id, ms in reply]
        for key, reply in zip(keys, replies, strict=True)
    ]


def _past(position: Position, here: Position | None, *, newest_first: bool) -> bool:
    """Tell whether the walk comes to `position` after `here`."""
    if here is None:
        return True
    return position < here if newest_first else position > here
