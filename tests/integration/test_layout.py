"""The version of the layout in Redis: written at a start, known from old records, and never passed by."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from redis import Redis

from shared.cli import cli
from shared.errors import StoreUnfit
from shared.settings import PREFIX, Config, RedisSettings, SourceSettings
from shared.store.address import parse_address
from shared.store.client import RedisClient
from shared.store.fitness import refuse_unfit
from shared.store.keys import Keys
from shared.store.layout import LAYOUT, layout_of, take_up
from tests.faults.kept import FOLDER, load

SOURCE = "trustshare"
KEY = Keys().layout
KEPT = {int(file.stem.removeprefix("layout-")): file for file in FOLDER.glob("layout-*.json")}
LATER = f"reads no later one than {LAYOUT}"


@pytest.fixture
def redis(redis_url: str) -> Redis:
    return Redis.from_url(redis_url)


def config(redis_url: str) -> Config:
    sources = (SourceSettings(name=SOURCE, provider=SOURCE), SourceSettings(name="new", provider=SOURCE))
    return Config(redis=RedisSettings(url=redis_url), sources=sources)


def found(redis_url: str) -> int:
    async def look() -> int:
        client = RedisClient(parse_address(redis_url, PREFIX), timeout_s=5)
        try:
            return await layout_of(client, [SOURCE, "new"])
        finally:
            await client.close()

    return asyncio.run(look())


def command(folder: Path, redis_url: str, *words: str) -> Result:
    file = folder / "headrace.toml"
    file.write_text(
        f'redis.url = "{redis_url}"\n[[sources]]\nname = "{SOURCE}"\nprovider = "{SOURCE}"\nsecrets = ["a secret of 20 bytes"]'
    )
    return CliRunner().invoke(cli, [*words, "--config", str(file)], prog_name="headrace")


def test_a_start_writes_the_version_into_a_fresh_redis_and_a_second_one_changes_nothing(
    redis: Redis, redis_url: str
) -> None:
    assert found(redis_url) == 0
    assert redis.keys("*") == [], "a look writes nothing"
    for _ in range(2):
        refuse_unfit(config(redis_url))
        assert redis.get(KEY) == str(LAYOUT).encode()
        assert found(redis_url) == LAYOUT
    assert redis.keys("*") == [KEY.encode()]


@pytest.mark.parametrize("version", [1, 2])
def test_records_from_before_there_was_a_version_are_known_and_taken_up(
    redis: Redis, redis_url: str, tmp_path: Path, version: int
) -> None:
    load(redis, json.loads(KEPT[version].read_text()))
    redis.delete(KEY)
    assert found(redis_url) == version
    report = msgspec.json.decode(command(tmp_path, redis_url, "check", "--json").stdout)
    assert (report["ok"], report["redis"]["layout"]) == (True, version)
    migrated = command(tmp_path, redis_url, "migrate")
    assert (migrated.exit_code, migrated.stderr) == (0, "")
    assert f"records of layout {version};" in migrated.stdout
    assert "nothing to migrate" in migrated.stdout
    assert not redis.exists(KEY), "no command takes records up"
    refuse_unfit(config(redis_url))
    assert redis.get(KEY) == str(LAYOUT).encode()


def test_nothing_but_an_inbox_is_of_the_first_version(redis: Redis, redis_url: str) -> None:
    redis.xadd(Keys().inbox(SOURCE), {"body": "{}"})
    assert found(redis_url) == 1


def test_an_earlier_version_is_raised_and_a_later_one_is_refused_and_stays(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    redis.set(KEY, LAYOUT - 1)
    refuse_unfit(config(redis_url))
    assert redis.get(KEY) == str(LAYOUT).encode()
    redis.set(KEY, LAYOUT + 1)
    with pytest.raises(StoreUnfit, match=LATER):
        refuse_unfit(config(redis_url))
    for words in (["events"], ["migrate"], ["targets"], ["dead-letters"]):
        done = command(tmp_path, redis_url, *words)
        assert (done.exit_code, done.stdout) == (1, "")
        assert LATER in done.stderr
        assert done.stderr.count("\n") == 1
    checked = command(tmp_path, redis_url, "check")
    assert checked.exit_code == 1
    assert LATER in " ".join(checked.stdout.split())
    assert redis.get(KEY) == str(LAYOUT + 1).encode()


def test_of_starts_at_once_one_writes_the_version_and_none_fails(redis: Redis, redis_url: str) -> None:
    async def start() -> int:
        client = RedisClient(parse_address(redis_url, PREFIX), timeout_s=5)
        try:
            return await take_up(client, [SOURCE])
        finally:
            await client.close()

    async def all_at_once() -> list[int]:
        return await asyncio.gather(*(start() for _ in range(20)))

    assert sorted(asyncio.run(all_at_once())) == [0, *[LAYOUT] * 19]
    assert redis.get(KEY) == str(LAYOUT).encode()
