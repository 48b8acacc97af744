"""Checks whether a Redis may be trusted with events: at every start, and in `headrace check`."""

import asyncio
from typing import Any

import msgspec

from shared.errors import StoreUnavailable, StoreUnfit
from shared.settings import Config
from shared.store.address import parse_address
from shared.store.client import RedisClient, translated
from shared.store.layout import take_up

FLOOR = (6, 2)


class Fitness(msgspec.Struct, frozen=True):
    """What Redis says about itself, and each reason why it must not be used."""

    version: str
    maxmemory: int
    policy: str
    aof: bool
    fsync: str
    problems: list[str]

    def insist(self) -> None:
        """Raises: StoreUnfit with all problems, if there are any."""
        if self.problems:
            raise StoreUnfit("; ".join(self.problems))


def refuse_unfit(config: Config) -> None:
    """Check Redis before a process starts, and record in it the version of the layout. If it cannot be
    reached, nothing is done.

    Raises: StoreUnfit.
    """
    redis = config.redis

    async def check() -> None:
        client = RedisClient(parse_address(redis.url, redis.prefix), timeout_s=1.0)
        try:
            (await inspect(client, require_aof=redis.require_aof)).insist()
            await take_up(client, [source.name for source in config.sources])
        except StoreUnavailable:
            pass
        finally:
            await client.close()

    asyncio.run(check())


async def inspect(client: RedisClient, *, require_aof: bool) -> Fitness:
    """Read Redis's settings. Raises: StoreUnavailable, also while Redis loads its data."""
    with translated():
        info: dict[str, Any] = await client.redis.info()
    if int(info.get("loading", 0)):
        # While it loads, it says that its append-only file is off.
        raise StoreUnavailable("Redis is loading its data")
    fsync = await _fsync(client)
    version = str(info["redis_version"])
    problems = []
    if tuple(int(part) for part in version.split(".")[:2]) < FLOOR:
        problems.append(f"Redis {version} is too old: 6.2 or newer is needed")
    maxmemory, policy = int(info.get("maxmemory", 0)), str(info.get("maxmemory_policy", ""))
    if not maxmemory:
        problems.append("maxmemory is not set: without it a flood takes the whole machine")
    if policy != "noeviction":
        problems.append(
            f"maxmemory-policy is {policy}, which drops events when memory runs out: set noeviction"
        )
    aof = bool(int(info.get("aof_enabled", 0)))
    if require_aof and not aof:
        problems.append(
            "appendonly is off, so a restart loses events: turn it on, or set redis.require_aof = false"
        )
    return Fitness(version, maxmemory, policy, aof, fsync, problems)


async def _fsync(client: RedisClient) -> str:
    try:
        with translated():
            reply = await client.redis.config_get("appendfsync")
    except Exception:
        return "unknown"
    value = next(iter(reply.values()), None)
    return value.decode() if isinstance(value, bytes) else str(value or "unknown")
