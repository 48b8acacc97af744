"""What a command runs with: the configuration that it finds, and a connection to its Redis."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from shared.config.file import find_running_config, given, read_config
from shared.errors import StoreUnavailable
from shared.settings import Config
from shared.store.address import parse_address
from shared.store.client import RedisClient
from shared.store.layout import layout_of, refuse_later

REDIS_TIMEOUT_S = 5.0

T = TypeVar("T")


def running_config(option: str | None) -> Config:
    """Return the configuration that is found, else that of the demo in this folder. Raises: ConfigError."""
    return read_config(given(find_running_config(option)))


def ask(config: Config, body: Callable[[RedisClient], Awaitable[T]]) -> T:
    """Run `body` with a connection to the configuration's Redis.

    Raises: StoreUnavailable naming it; StoreUnfit if the records there are of a later version of Headrace.
    """

    async def ask_if_readable(client: RedisClient) -> T:
        refuse_later(await layout_of(client, [source.name for source in config.sources]))
        return await body(client)

    return ask_whatever_it_holds(config, ask_if_readable)


def ask_whatever_it_holds(config: Config, body: Callable[[RedisClient], Awaitable[T]]) -> T:
    """Run `body` with a connection to the configuration's Redis. Raises: StoreUnavailable naming it."""
    address = parse_address(config.redis.url, config.redis.prefix)

    async def run() -> T:
        client = RedisClient(address, timeout_s=REDIS_TIMEOUT_S)
        try:
            return await body(client)
        finally:
            await client.close()

    try:
        return asyncio.run(run())
    except StoreUnavailable as error:
        missing = address.path and not Path(address.path).exists()
        why = "none runs there; `headrace up` starts an embedded one" if missing else error
        raise StoreUnavailable(f"Redis at {address.shown}: {why}") from None
