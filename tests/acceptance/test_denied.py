"""A Redis that refuses a password or a command is said to do that, not to be away."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.gateway import HEADRACE, SOURCES, clean_env, free_port
from tests.conftest import RedisServer
from tests.waiting import wait_for

PASSWORD, WRONG = "the-right-password", "canary-wrong-password"


@pytest.fixture
def port(folder: Path) -> Iterator[int]:
    port = free_port()
    server = RedisServer(folder, "--port", str(port))
    server.start()
    with server.client() as client:
        client.acl_setuser("weak", enabled=True, passwords=[f"+{PASSWORD}"], commands=["+ping"])
        client.acl_setuser("default", enabled=True, passwords=[f"+{PASSWORD}"])
    yield port
    server.kill()


@pytest.mark.parametrize(
    ("login", "says"),
    [
        (f":{WRONG}@", "refuses the user or the password of redis.url"),
        ("", "refuses the user or the password of redis.url"),
        (f"weak:{PASSWORD}@", "does not permit a command to the user of redis.url"),
    ],
    ids=["wrong password", "none", "no rights"],
)
def test_ingress_worker_and_commands_say_what_redis_refuses(
    login: str, says: str, port: int, folder: Path
) -> None:
    config = folder / "headrace.toml"
    config.write_text(
        f'redis.url = "redis://{login}127.0.0.1:{port}/0"\ningress.port = {free_port()}\n{SOURCES}'
    )
    said = ""

    def command() -> str:
        argv = [HEADRACE, "events", "--config", str(config)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=clean_env(), check=False)
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        return line

    wait_for(lambda: says in command(), "the command to say so", within_s=60)
    said += command()
    for process in ("ingress", "worker"):
        log = folder / f"{process}.log"
        argv = [HEADRACE, process, "--config", str(config)]
        with open(log, "wb") as output:
            running = subprocess.Popen(argv, stdout=output, stderr=output, env=clean_env())
        try:
            wait_for(lambda: says in log.read_text(), f"{process} to say so", within_s=60)  # noqa: B023
        finally:
            running.terminate()
            assert running.wait(60) == 0
        said += log.read_text()
    assert "Redis is away" not in said
    assert WRONG not in said
    assert PASSWORD not in said
