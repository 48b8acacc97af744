"""The application is plain ASGI: whatever speaks it, another server too, runs it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.types import Message, Scope
from structlog.testing import capture_logs

from ingress.app import create_app
from shared.config.reload import ConfigFile
from tests.acceptance.gateway import REQUESTS, SOURCES


@pytest.fixture
def config(tmp_path: Path, redis_url: str) -> Path:
    path = tmp_path / "headrace.toml"
    path.write_text(f'redis.url = "{redis_url}"\n{SOURCES}')
    return path


async def call(
    app: Starlette, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Call the application as an ASGI server does. Returns the status and the JSON of the answer."""
    said: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    async def send(message: Message) -> None:
        said.append(message)

    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        "client": ("192.0.2.1", 1),
    }
    await app(scope, receive, send)
    return said[0]["status"], json.loads(b"".join(part.get("body", b"") for part in said[1:]))


def with_app(config: Path, test: Callable[[Starlette], Awaitable[None]]) -> None:
    async def main() -> None:
        app = create_app(ConfigFile(config))
        async with app.router.lifespan_context(app):
            await test(app)

    asyncio.run(main())


def test_it_answers_providers_strangers_and_health(config: Path) -> None:
    async def test(app: Starlette) -> None:
        for path, headers in REQUESTS.values():
            status, answer = await call(app, "POST", path, b'{"a":1}', headers)
            assert (status, list(answer)) == (200, ["id"])
            assert await call(app, "GET", path) == (405, {"error": "method not allowed"})
            assert await call(app, "POST", path + "/x/y") == (404, {"error": "not found"})
        assert await call(app, "POST", "/webhooks/nosuch", b"{}") == (404, {"error": "not found"})
        assert await call(app, "GET", "/readyz") == (200, {"status": "ready"})
        assert await call(app, "GET", "/livez") == (200, {"status": "ok"})

    with_app(config, test)


@pytest.mark.case(n=41)
@pytest.mark.parametrize("announced", [0, 1, 3, 200])
def test_a_length_that_is_not_kept_gets_no_receipt_whatever_the_server(announced: int, config: Path) -> None:
    async def test(app: Starlette) -> None:
        path, headers = REQUESTS["truust"]
        headers = {**headers, "content-length": str(announced)}
        assert await call(app, "POST", path, b"{}", headers) == (400, {"error": "bad request"})

    with_app(config, test)


def test_what_an_adapter_did_not_foresee_is_a_500_and_an_error_in_the_log(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("unforeseen")

    async def test(app: Starlette) -> None:
        assert (await call(app, "POST", REQUESTS["truust"][0], b"{}"))[0] == 500

    monkeypatch.setattr("shared.providers.truust.Truust.verify_head", fail)
    with capture_logs() as lines:
        with_app(config, test)
    said = [(line["event"], line["log_level"]) for line in lines]
    assert ("adapter failed", "error") in said
    assert ("request", "error") in said
