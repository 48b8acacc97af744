"""`headrace retry`, and what `targets` says of what waits: against a real Redis."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from redis import Redis

from shared.cli import cli
from shared.store.due import End
from tests.conftest import RedisServer

from .filled import Filled, with_redis
from .test_cli import SIGNING, SOURCES, TARGET_TOKEN, TARGETS, write

LATER_MS = 3_600_000


@pytest.fixture
def config(tmp_path: Path, redis_url: str) -> str:
    return write(tmp_path, redis_url, SOURCES + TARGETS)


@pytest.fixture
def redis(redis_server: RedisServer) -> Any:
    with redis_server.client() as client:
        yield client


def run(config: str, *args: str) -> Result:
    return CliRunner().invoke(cli, [args[0], "--config", config, *args[1:]], prog_name="headrace")


def said(config: str, *args: str) -> str:
    """Run a command that must succeed; return all that it printed, on one line."""
    result = run(config, *args)
    assert result.exit_code == 0, result.stderr
    return " ".join((result.stdout + result.stderr).split())


def waiting(redis_url: str, count: int) -> list[str]:
    """Have events whose first attempt at `ledger` failed wait for an hour, for its next."""
    ids: list[str] = []

    async def fill(store: Filled) -> None:
        ids.extend(await store.events(count, "ledger", "crm"))
        await store.settle("crm", End.DONE, status=200)
        await store.settle("ledger", End.RETRY)
        now_ms = (await store.client.redis.time())[0] * 1000
        await store.client.redis.zadd("hr:due:ledger", dict.fromkeys(ids, now_ms + LATER_MS))

    with_redis(redis_url, fill)
    return ids


def due_now(redis: Redis) -> set[str]:
    seconds, _ = redis.time()
    found: Any = redis.zrangebyscore("hr:due:ledger", "-inf", seconds * 1000 + 60_000)
    return {id.decode() for id in found}


def test_retry_makes_due_now_what_waits_for_its_next_attempt(
    config: str, redis_url: str, redis: Redis
) -> None:
    ids = waiting(redis_url, 5)
    assert due_now(redis) == set()
    assert "5" in said(config, "retry", "--target", "ledger", "--dry-run")
    assert due_now(redis) == set(), "it only counted"
    assert run(config, "retry", "--target", "ledger").exit_code == 2, "it asks before it does it"
    assert said(config, "retry", *ids[:2], "--yes").endswith("2 deliveries are due now.")
    assert due_now(redis) == {*ids[:2]}
    planned = json.loads(run(config, "retry", "--target", "ledger", "--yes", "--json").stdout)
    assert planned == {
        "planned": {"later": {"ledger": 3}, "now": {"ledger": 2}},
        "retried": {"ledger": 3},
    }
    assert due_now(redis) == {*ids}
    assert "Nothing waits for its next attempt. Due already: 5" in said(config, "retry", *ids)
    assert redis.hget(f"hr:event:{ids[0]}", "failed:ledger") == b"1", "the schedule goes on as before"
    bells: Any = redis.lrange("headrace", 0, -1)
    assert any(b"headrace.deliver" in bell for bell in bells), "it rang"
    notes: Any = redis.xrange("hr:audit")
    assert [note[b"action"] for _, note in notes] == [b"retry", b"retry"]
    assert json.loads(notes[1][1][b"deliveries"]) == {"ledger": 3}


def test_retry_narrows_by_source_and_type_and_refuses_unknown_names(config: str, redis_url: str) -> None:
    waiting(redis_url, 2)
    assert "Nothing" in said(config, "retry", "--target", "ledger", "--source", "trustap", "--yes")
    assert "Nothing" in said(config, "retry", "--target", "ledger", "--type", "payout.*", "--yes")
    assert "Nothing" in said(config, "retry", "--target", "crm", "--yes")
    for args, words in (
        (["--target", "legder"], "ledger, crm"),
        (["--target", "ledger", "--source", "trustsh"], "trustshare, trustist, trustap"),
        (["--target", "ledger", "--type", "paymnt.*"], "payment.received"),
        ([], "--target"),
    ):
        result = run(config, "retry", *args, "--yes")
        assert (result.exit_code, words in result.stderr) == (2, True), result.stderr
    found = said(
        config, "retry", "--target", "ledger", "--source", "trustshare", "--type", "payment.*", "--yes"
    )
    assert found.endswith("2 deliveries are due now.")


@pytest.mark.parametrize("backoff", [True, False])
def test_retry_lets_one_delivery_try_an_open_breaker_at_once(
    backoff: bool, config: str, redis_url: str, redis: Redis
) -> None:
    ids = waiting(redis_url, 2)
    seconds: int = redis.time()[0]
    if not backoff:
        redis.zadd("hr:due:ledger", dict.fromkeys(ids, 1))
    redis.hset("hr:target:ledger", mapping={"open_until": (seconds + 3600) * 1000, "trips": 3})
    assert "one delivery tries at once" in said(config, "retry", "--target", "ledger", "--yes")
    assert int(redis.hget("hr:target:ledger", "open_until") or 0) <= (seconds + 60) * 1000

    async def probe(store: Filled) -> None:
        assert len((await store.claim("ledger", 9)).entries) == 1

    with_redis(redis_url, probe)


def test_resume_says_how_many_go_out_now_and_how_many_wait_until_when(
    config: str, redis_url: str, redis: Redis
) -> None:
    ids = waiting(redis_url, 5)
    redis.zadd("hr:due:ledger", {ids[0]: 1})
    said(config, "targets", "pause", "ledger")
    text = said(config, "targets", "resume", "ledger")
    assert "1 delivery goes out now, 4 wait for their next attempts, the first 20" in text
    assert "headrace retry --target ledger" in text


def test_targets_says_how_old_the_oldest_is_and_not_for_how_long_it_is_overdue(
    config: str, redis_url: str, redis: Redis
) -> None:
    waiting(redis_url, 1)
    [ledger, crm] = json.loads(run(config, "targets", "--json").stdout)["targets"]
    assert ledger["oldest_wait_s"] > 0
    assert ledger["overdue_s"] == 0, "its next attempt is due in an hour"
    assert (ledger["due_now"], ledger["backlog"]) == (0, 1)
    assert (crm["oldest_wait_s"], crm["overdue_s"]) == (None, None)


def test_the_reason_to_wait_is_shown_and_in_the_json(config: str, redis_url: str, redis: Redis) -> None:
    [id] = waiting(redis_url, 1)
    assert "due: attempt 2 is due at 20" in said(config, "deliveries", id)
    said(config, "targets", "pause", "ledger", "--reason", "being moved")
    assert "paused: the target is paused: being moved" in said(config, "deliveries", id)
    rows = json.loads(run(config, "deliveries", id, "--json").stdout)["deliveries"]
    assert {row["target"]: row["why"] and row["why"]["word"] for row in rows} == {
        "ledger": "paused",
        "crm": None,
    }


def test_a_target_that_never_was_cannot_be_removed(config: str, redis: Redis) -> None:
    redis.zadd("hr:targets", {"former": 1})
    result = run(config, "targets", "remove", "nosuch", "--yes")
    assert result.exit_code == 2
    for word in ("nosuch", "ledger", "crm", "former"):
        assert word in result.stderr
    assert run(config, "targets", "remove", "former", "--yes").exit_code == 0


def test_the_path_of_a_tested_target_is_shown_if_secrets_are_asked_for(
    tmp_path: Path, redis_url: str
) -> None:
    path = f"/hooks/{TARGET_TOKEN}?key={TARGET_TOKEN}"
    with socket.create_server(("127.0.0.1", 0)) as server:
        origin = f"http://127.0.0.1:{server.getsockname()[1]}"
    table = (
        f'[[targets]]\nname = "ledger"\nurl = "{origin}{path}"\nsecret = "{SIGNING}"\nallow_private = true\n'
    )
    config = write(tmp_path, redis_url, table)
    shown = run(config, "targets", "test", "ledger").stdout
    assert f"> POST {origin}/… (all of it: --show-secrets)" in shown
    assert TARGET_TOKEN not in shown
    assert f"> POST {origin}{path}" in run(config, "targets", "test", "ledger", "--show-secrets").stdout
