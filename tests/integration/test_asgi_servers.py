"""Any ASGI server runs the application: the oldest and the newest uvicorn that are allowed, and Starlette's client."""

import json
import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from starlette.testclient import TestClient

from ingress.app import create_app
from tests.acceptance.gateway import REQUESTS, SOURCES, clean_env, free_port
from tests.conftest import RedisServer
from tests.documents.markers import ROOT
from tests.waiting import wait_for

SAMPLES = {
    provider: [
        path.read_bytes()
        for path in sorted((ROOT / "shared/providers" / provider / "samples").glob("*.json"))
    ]
    for provider in REQUESTS
}
MAX_BODY_BYTES = 20_000


@pytest.fixture
def config(folder: Path, redis_url: str) -> Path:
    path = folder / "headrace.toml"
    path.write_text(f'redis.url = "{redis_url}"\ningress.max_body_bytes = {MAX_BODY_BYTES}\n{SOURCES}')
    return path


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Redis]:
    with redis_server.client() as client:
        yield client


def uvicorn_that_is_allowed(which: str) -> str:
    """Return what to install: the oldest that pyproject.toml allows, or the newest there is."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [wanted] = [str(line) for line in project["dependencies"] if line.startswith("uvicorn")]
    return wanted if which == "newest" else wanted.replace(">=", "==")


@pytest.fixture(scope="session", params=["oldest", "newest"])
def uvicorn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a uvicorn of its own."""
    folder = tmp_path_factory.mktemp("uvicorn")
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
    argv += ["--disable-pip-version-check", "--retries", "0", "--target", str(folder)]
    installed = subprocess.run(
        [*argv, uvicorn_that_is_allowed(request.param)], capture_output=True, timeout=120, check=False
    )
    if installed.returncode:
        pytest.skip("no package registry answers")
    return folder


@pytest.fixture
def port(uvicorn: Path, config: Path) -> Iterator[int]:
    """The port of the application under that uvicorn, as the README starts it."""
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", "--factory", "ingress.app:create_app", "--port", str(port)]
    env = clean_env() | {"HEADRACE_CONFIG": str(config), "PYTHONPATH": str(uvicorn)}
    log = config.with_name("log")
    with open(log, "wb") as output:
        server = subprocess.Popen(argv, cwd=config.parent, env=env, stdout=output, stderr=output)
    try:
        wait_for(lambda: answer(port, "GET", "/readyz")[0] == 200, "the application to be ready", within_s=60)
        yield port
        # Log lines are gathered for a moment before they are written.
        wait_for(lambda: "are not in force" in log.read_text(), "which limits are now the other server's")
        assert "Traceback" not in log.read_text()
    finally:
        server.terminate()
        assert server.wait(30) in (0, -15)


def answer(
    port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, object]:
    """Send a request of its own connection. Returns the status and the JSON; 0 if nobody listens."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except ConnectionRefusedError:
        return 0, None
    finally:
        connection.close()


def kept(redis: Redis, source: str) -> list[bytes]:
    """Return the bodies in a source's inbox."""
    entries: Any = redis.xrange(f"hr:inbox:{source}")
    return [fields[b"body"] for _, fields in entries]


def test_uvicorn_takes_every_sample_of_every_provider_byte_for_byte(
    port: int, redis: Redis, uvicorn: Path
) -> None:
    versions = [path.name for path in uvicorn.glob("uvicorn-*.dist-info")]
    assert re.fullmatch(r"uvicorn-[\d.]+\.dist-info", versions[0])
    for provider, (path, headers) in REQUESTS.items():
        for body in SAMPLES[provider]:
            status, receipt = answer(port, "POST", path, body, headers)
            assert (status, list(receipt if isinstance(receipt, dict) else ())) == (200, ["id"])
        assert kept(redis, provider) == SAMPLES[provider]


def test_uvicorn_answers_what_is_wrong_as_headrace_s_own_server_does(port: int, redis: Redis) -> None:
    path, headers = REQUESTS["trustshare"]
    wrong = dict.fromkeys(headers, "wrong")
    assert answer(port, "POST", path, b"{}", wrong) == (401, {"error": "unauthorized"})
    assert answer(port, "POST", path, b"x" * (MAX_BODY_BYTES + 1), headers)[0] == 413
    assert answer(port, "POST", path, b"x" * MAX_BODY_BYTES, headers)[0] == 200
    assert answer(port, "POST", "/webhooks/nosuch", b"{}", headers) == (404, {"error": "not found"})
    assert answer(port, "GET", path) == (405, {"error": "method not allowed"})
    assert answer(port, "GET", "/livez") == (200, {"status": "ok"})
    assert kept(redis, "trustshare") == [b"x" * MAX_BODY_BYTES]


@pytest.mark.case(n=41)
@pytest.mark.parametrize("framing", ["content-length: 16", "transfer-encoding: chunked"])
def test_uvicorn_gives_no_receipt_for_a_body_that_an_upgrade_costs(
    framing: str, port: int, redis: Redis
) -> None:
    """It drops the body of a request that asks for h2c (Kludex/uvicorn#2722)."""
    path, headers = REQUESTS["trustshare"]
    body = b'{"type":"first"}'
    sent = body if "length" in framing else b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    lines = [f"POST {path} HTTP/1.1", "host: x", "connection: upgrade", "upgrade: h2c", framing]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sender:
        sender.sendall("\r\n".join([*lines, "", ""]).encode() + sent)
        status = sender.recv(65536).split(b" ")[1]
    assert kept(redis, "trustshare") == ([body] if status == b"200" else [])


def test_starlette_s_test_client_takes_every_sample(
    config: Path, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_CONFIG", str(config))
    with TestClient(create_app()) as client:
        for provider, (path, headers) in REQUESTS.items():
            for body in SAMPLES[provider]:
                response = client.post(path, content=body, headers=headers)
                assert (response.status_code, list(response.json())) == (200, ["id"])
            assert kept(redis, provider) == SAMPLES[provider]
        assert client.post("/webhooks/nosuch", content=b"{}").status_code == 404
