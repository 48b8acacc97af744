"""Whether a Redis is fit, asked of a real one in the moments when that is hard to say."""

import asyncio
import subprocess
import time
from itertools import count, islice, takewhile
from pathlib import Path

from shared.errors import StoreUnavailable
from shared.settings import PREFIX, Config, RedisSettings
from shared.store.address import parse_address
from shared.store.client import RedisClient
from shared.store.fitness import inspect, refuse_unfit
from tests.conftest import RedisServer

KEYS = 20_000
LOAD_DELAY_US = 200
"""A key: so that loading takes seconds, while Redis answers once in a thousand keys."""


def test_a_redis_that_is_loading_is_not_there_yet_and_not_unfit(folder: Path) -> None:
    server = RedisServer(folder)
    server.start()
    with server.client() as client:
        pipe = client.pipeline(transaction=False)
        for number in range(KEYS):
            pipe.set(f"key-{number}", "value")
        pipe.execute()
    server.kill()
    server.process = subprocess.Popen([*server.argv, "--key-load-delay", str(LOAD_DELAY_US)])
    settings = RedisSettings(url=server.url)
    try:
        said = list(islice(takewhile(bool, (ask(settings) for _ in count())), 1000))
        assert "Redis is loading its data" in said
        with server.client() as client:
            assert sum(1 for _ in client.scan_iter("key-*", count=KEYS)) == KEYS
    finally:
        server.kill()


def ask(settings: RedisSettings) -> str:
    """Return why nothing is known of this Redis; '' where it is fit. One that is unfit fails the test."""

    async def look() -> str:
        client = RedisClient(parse_address(settings.url, PREFIX), timeout_s=5.0)
        try:
            (await inspect(client, require_aof=True)).insist()
        except StoreUnavailable as error:
            return str(error)
        finally:
            await client.close()
        return ""

    refuse_unfit(Config(redis=settings))
    time.sleep(0.02)
    return asyncio.run(look())
