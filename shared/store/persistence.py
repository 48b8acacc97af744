"""Has Redis write its files anew, so that they hold nothing of what was removed or replaced."""

import asyncio
from time import monotonic
from typing import Any

from shared.errors import StoreUnavailable
from shared.store.client import RedisClient, translated

LOOK_S = 0.2


async def write_anew(client: RedisClient, within_s: float) -> list[str]:
    """Have the append-only file and the snapshot written anew, if Redis writes them, and wait for that.

    Returns what an operator must still do. Raises: StoreUnavailable, if the connection breaks.
    """
    redis: Any = client.redis
    left: list[str] = []
    until = monotonic() + within_s
    if int((await _persistence(client))["aof_enabled"]):
        begun = await _begin(redis.bgrewriteaof)
        done = begun and await _ended(client, "aof_rewrite_in_progress", "aof_rewrite_scheduled", until)
        if not done or (await _persistence(client))["aof_last_bgrewrite_status"] != "ok":
            left.append("Redis has not written its append-only file anew: run BGREWRITEAOF, and wait for it")
    if await _has_snapshots(redis):
        begun = await _begin(redis.bgsave)
        done = begun and await _ended(client, "rdb_bgsave_in_progress", "rdb_bgsave_in_progress", until)
        if not done or (await _persistence(client))["rdb_last_bgsave_status"] != "ok":
            left.append("Redis has not written its snapshot anew: run BGSAVE, and wait for it")
    return left


async def _persistence(client: RedisClient) -> dict[str, Any]:
    with translated():
        found: dict[str, Any] = await client.redis.info("persistence")
    return found


async def _has_snapshots(redis: Any) -> bool:
    """Tell whether Redis writes snapshots; yes, if it does not say."""
    try:
        with translated():
            return any((await redis.config_get("save")).values())
    except StoreUnavailable:
        return True


async def _begin(command: Any) -> bool:
    """Have Redis begin to write a file. Returns whether it does."""
    try:
        with translated():
            await command()
    except StoreUnavailable as error:
        return "already in progress" in str(error)
    return True


async def _ended(client: RedisClient, running: str, scheduled: str, until: float) -> bool:
    while monotonic() < until:
        found = await _persistence(client)
        if not int(found[running]) and not int(found[scheduled]):
            return True
        await asyncio.sleep(LOOK_S)
    return False
