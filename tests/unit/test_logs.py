"""What a log line holds, and what it must not: each case in a process of its own, as there is one log a process."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from shared.process.logs import redact
from tests.acceptance.gateway import clean_env

TOKEN = "canary-token-0123456789"
SIGNING = "whsec_Y2FuYXJ5LWNhbmFyeQ=="
PASSWORD = "canary-password"
SECRETS = (TOKEN, SIGNING, PASSWORD)

TEXTS = {
    "a path token": f"POST /webhooks/truust/{TOKEN} failed",
    "a path token of a URL": f"https://hooks.example.com/webhooks/truust/{TOKEN}?x=1",
    "a path token in quotes": f"no route for '/webhooks/truust/{TOKEN}'",
    "a signing secret": f"bad key {SIGNING}",
    "a URL's user and password": f"cannot connect to redis://headrace:{PASSWORD}@redis/0",
}


def lines(code: str, *, form: str = "json", **env: str) -> list[str]:
    """Run code in a process that logs as ours do; return what it wrote to standard error."""
    start = "import asyncio, gc, logging, structlog, sys, threading, warnings\nfrom shared.process import logs\nlogs.configure('test')\nlog = structlog.get_logger()\n"
    done = subprocess.run(
        [sys.executable, "-c", start + code],
        env=clean_env() | {"HEADRACE_LOG_FORMAT": form, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def events(code: str, **env: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(code, **env)]


@pytest.mark.case(n=57)
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_redact_masks(text: str) -> None:
    shown = redact(text)
    assert "***" in shown
    assert not [secret for secret in SECRETS if secret in shown]


@pytest.mark.case(n=57)
def test_redact_keeps_the_source_and_what_is_no_secret() -> None:
    assert redact(f"/webhooks/truust/{TOKEN}") == "/webhooks/truust/***"
    assert redact("/webhooks/truust") == "/webhooks/truust"
    assert redact("http://127.0.0.1:8000/webhooks/truust") == "http://127.0.0.1:8000/webhooks/truust"


@pytest.mark.case(n=57)
@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_no_secret_passes_wherever_it_stands_in_what_is_logged(text: str, form: str) -> None:
    code = f"""
text = {text!r}
log.info(text, field=text, deep={{"a": [{{text: (text,)}}]}}, error=ValueError(text))
log.bind(bound=text).warning("bound")
structlog.contextvars.bind_contextvars(unit=text)
log.info("in a unit of work")
structlog.contextvars.clear_contextvars()
logging.getLogger("library").error("it says %s", text)
warnings.warn(text)
try:
    raise RuntimeError(text)
except RuntimeError:
    log.exception("failed")
thread = threading.Thread(target=lambda: int(text))
thread.start()
thread.join()
raise RuntimeError(text)
"""
    said = "\n".join(lines(code, form=form))
    for event in ("bound", "in a unit of work", "it says", "failed", "a thread died", "uncaught exception"):
        assert event in said
    assert "***" in said
    assert not [secret for secret in SECRETS if secret in said], said


@pytest.mark.case(n=56)
@pytest.mark.parametrize("form", ["json", "text"])
def test_bound_context_stands_in_every_line(form: str) -> None:
    code = """
bound = log.bind(target="ledger")
bound.info("one", attempt=1)
bound.bind(source="truust").warning("two")
with structlog.contextvars.bound_contextvars(unit="u-7"):
    bound.error("three")
    logging.getLogger("library").warning("four")
log.info("five")
"""
    said = lines(code, form=form)
    if form == "json":
        found = [json.loads(line) for line in said]
        assert [(each["event"], each.get("target"), each.get("unit")) for each in found] == [
            ("one", "ledger", None),
            ("two", "ledger", None),
            ("three", "ledger", "u-7"),
            ("four", None, "u-7"),
            ("five", None, None),
        ]
        assert (found[0]["attempt"], found[1]["source"]) == (1, "truust")
    else:
        assert ["ledger" in line for line in said] == [True, True, True, False, False]
        assert ["u-7" in line for line in said] == [False, False, True, True, False]


@pytest.mark.case(n=43)
def test_what_cannot_be_rendered_is_a_line_all_the_same_and_raises_nothing() -> None:
    code = """
class Broken:
    def __repr__(self):
        raise OSError("no repr")
log.info("one", field=Broken())
log.info("a lone surrogate: \\ud800")
log.info("two", field="\\ud800")
logging.getLogger("library").warning("%s and %s", "only one")
logging.getLogger("library").log(33, "between two levels")
log.info("last")
"""
    assert [each["event"] for each in events(code)] == [
        *("'one'", "'a lone surrogate: \\ud800'", "'two'", "a log line could not be made"),
        *("between two levels", "last"),
    ]


@pytest.mark.case(n=43)
def test_what_nobody_caught_is_logged() -> None:
    code = """
async def fails():
    raise KeyError("task")
async def main():
    asyncio.get_running_loop().call_soon(lambda: int("callback"))
    asyncio.create_task(fails())
    await asyncio.sleep(0.01)
    gc.collect()
class Broken:
    def __del__(self):
        raise OSError("destructor")
asyncio.run(main())
Broken()
"""
    found = events(code)
    kinds = {each["exception"][0]["exc_type"] for each in found}
    assert kinds == {"KeyError", "ValueError", "OSError"}
    assert {each["level"] for each in found} == {"error"}


@pytest.mark.parametrize(
    ("name", "allowed"), [("HEADRACE_LOG_LEVEL", "debug"), ("HEADRACE_LOG_FORMAT", "json")]
)
@pytest.mark.parametrize("command", [["worker"], ["ingress"], ["up"]])
def test_an_unknown_log_setting_is_one_line_that_lists_what_is_allowed(
    name: str, allowed: str, command: list[str], tmp_path: Any
) -> None:
    config = tmp_path / "headrace.toml"
    config.write_text('redis.url = "embedded"\n')
    done = subprocess.run(
        [os.path.join(os.path.dirname(sys.executable), "headrace"), *command, "--config", str(config)],
        env=clean_env() | {name: "verbose"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"headrace: {name}: 'verbose' is none of {allowed}")
