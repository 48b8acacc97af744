"""The commands, against a real Redis: what they print, what they never print, and how they end."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from shared.cli import COMMANDS, cli
from shared.delivery.signing import new_asymmetric_secret, signing_key
from shared.event.ids import event_id
from shared.secrets import Secret
from shared.store.due import Attempt, End
from shared.store.keys import Keys

from .filled import ANSWER, E_MAIL, PAID, Filled, with_redis

KEYS = Keys()

HEADRACE = Path(sys.executable).with_name("headrace")
HEADER_SECRET = "canary-header-secret-0123"
PASSWORD = "canary-password-0123456"
PATH_TOKEN = "canary-path-token-0123456"
TARGET_TOKEN = "canary-target-token-0123456"
SIGNING = "whsec_Y2FuYXJ5LXNpZ25pbmcta2V5LTAxMjM0NTY3ODk="
CANARIES = (HEADER_SECRET, PASSWORD, PATH_TOKEN, TARGET_TOKEN, SIGNING[6:], E_MAIL, ANSWER)
REDIS_PASSWORD = "canary-redis-password"

SOURCES = f"""
[ingress]
public_url = "https://hooks.example.com/"
[[sources]]
name = "trustshare"
provider = "trustshare"
secrets = ["{HEADER_SECRET}"]
[[sources]]
name = "trustap"
provider = "trustap"
username = "headrace"
passwords = ["{PASSWORD}"]
[[sources]]
name = "trustist"
provider = "trustist"
path_tokens = ["{PATH_TOKEN}"]
currency = "GBP"
"""
TARGETS = f"""
[[targets]]
name = "ledger"
url = "https://ledger.example.com/hooks/{TARGET_TOKEN}?key={TARGET_TOKEN}"
secret = "{SIGNING}"
[[targets]]
name = "crm"
url = "https://crm.example.com/in"
secret = "{SIGNING}"
"""


def write(folder: Path, url: str, rest: str = SOURCES + TARGETS) -> str:
    path = folder / "headrace.toml"
    path.write_text(f'[redis]\nurl = "{url}"\n{rest}')
    return str(path)


@pytest.fixture
def config(tmp_path: Path, redis_url: str) -> str:
    return write(tmp_path, redis_url)


def run(config: str, *args: str) -> Result:
    return CliRunner().invoke(cli, [*args, "--config", config], prog_name="headrace")


def ok(config: str, *args: str) -> str:
    result = run(config, *args)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def as_json(config: str, *args: str) -> Any:
    return msgspec.json.decode(ok(config, *args, "--json"))


def failed(result: Result, code: int, *words: str) -> None:
    """See that a command ended with `code` and one line."""
    assert result.exit_code == code
    [line] = result.stderr.splitlines()
    assert line.startswith("headrace: ")
    for word in words:
        assert word in line


class Story:
    """What happened before an operator looks: one event of each kind."""

    async def tell(self, store: Filled) -> None:
        [self.dead] = await store.receive(PAID)
        await store.admit("ledger", "crm")
        await store.settle("crm", End.DONE, status=200)
        await store.settle("ledger", End.DEAD)
        [self.copy] = await store.receive(PAID)
        [self.done] = await store.receive(PAID | {"paymentToken": "pay-2"})
        await store.admit("crm")
        await store.settle("crm", End.DONE, status=200)
        [self.odd] = await store.receive(f"from {E_MAIL}, and no JSON".encode())
        [self.nowhere] = await store.receive({"type": "handshake"})
        await store.admit()
        [self.waiting] = await store.receive(PAID | {"paymentToken": "pay-3"})


@pytest.fixture
def story(redis_url: str) -> Story:
    story = Story()
    with_redis(redis_url, story.tell)
    return story


def on_a_terminal(columns: int, *args: str) -> str:
    """Return what a command prints on a terminal of this width, without its colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    with subprocess.Popen([HEADRACE, *args], stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:
            pass  # so a terminal says that the other side is closed
        os.close(ours)
        process.wait()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r\n", "\n")


# -- listings


def test_events_shows_what_came_in_and_where_it_went(config: str, story: Story) -> None:
    listed = as_json(config, "events")["events"]
    assert [event["id"] for event in listed] == [story.nowhere, story.done, story.dead]
    assert listed[2]["deliveries"] == {"ledger": "dead", "crm": "done"}
    assert listed[2]["money"] == {"amount_minor": 150000, "currency": "GBP"}
    ids = [event["id"] for event in listed]
    text = ok(config, "events")
    for word in (story.dead, "payment.received", "tx-1", "1,500.00 GBP", "1 done, 1 dead", "1 copy"):
        assert word in text
    assert [line.split()[0] for line in text.splitlines()] == ["EVENT", *ids], "a line each, in a pipe"
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_events_selects(config: str, story: Story) -> None:
    def ids(*args: str) -> list[str]:
        return [event["id"] for event in as_json(config, "events", *args)["events"]]

    assert ids("--limit", "1") == [story.nowhere]
    assert ids("--state", "dead") == [story.dead]
    assert ids("--type", "source.*", "--since", "1h") == [story.nowhere]
    assert ids("--until", "1h") == []
    assert ids("--since", "2000-01-01T00:00:00Z", "--until", "2000-01-02T00:00:00+01:00") == []
    assert ids("--source", "trustap") == []
    [copy] = as_json(config, "events", "--duplicates")["duplicates"]
    assert (copy["id"], copy["of"], copy["identical"]) == (story.copy, story.dead, True)


def test_each_receipt_is_told_apart(config: str, story: Story) -> None:
    assert "ledger: dead" in ok(config, "events", story.dead)
    assert f"a duplicate of {story.dead}" in ok(config, "events", story.copy)
    assert "not-json: " in ok(config, "events", story.odd)
    assert "not admitted yet" in ok(config, "events", story.waiting)
    assert as_json(config, "events", story.waiting)["state"] == "inbox"
    failed(run(config, "events", event_id("trustshare", "1-0")), 1, "retention")
    failed(run(config, "events", "evt_xyz"), 2, "not an event id")


def test_a_payload_is_printed_where_it_is_asked_for(config: str, story: Story) -> None:
    delivered = msgspec.json.decode(ok(config, "events", story.dead, "--payload"))
    assert (delivered["id"], delivered["data"]["original"]) == (story.dead, PAID)
    assert as_json(config, "events", story.dead, "--payload")["payload"] == delivered
    assert ok(config, "events", story.odd, "--payload") == f"from {E_MAIL}, and no JSON\n"
    failed(run(config, "events", story.copy, "--payload"), 1, story.dead)
    failed(run(config, "events", "--payload"), 2, "EVENT")


def test_deliveries_shows_every_attempt_and_answers_where_asked(config: str, story: Story) -> None:
    text = ok(config, "deliveries", story.dead)
    assert "HTTP 500" in text
    assert ANSWER not in text
    assert ANSWER in ok(config, "deliveries", story.dead, "--answers")
    shown = {each["target"]: each for each in as_json(config, "deliveries", story.copy)["deliveries"]}
    assert (shown["ledger"]["state"], shown["crm"]["state"]) == ("dead", "done")
    assert shown["ledger"]["attempts"][0]["duration_ms"] == 12.5
    assert "no target wants it" in ok(config, "deliveries", story.nowhere)
    assert "in quarantine" in ok(config, "deliveries", story.odd)
    assert "not admitted yet" in ok(config, "deliveries", story.waiting)


def test_dead_letters_and_quarantine_say_why(config: str, story: Story) -> None:
    text = ok(config, "dead-letters")
    for word in (story.dead, "1 attempt, last: HTTP 500", "ledger: 1 dead letter"):
        assert word in text
    assert as_json(config, "dead-letters")["counts"] == {"ledger": 1, "crm": 0}
    assert ok(config, "dead-letters", "--target", "crm") == "No dead letters.\n"
    failed(run(config, "dead-letters", "--target", "leger"), 2, "'leger'; there are: ledger, crm")
    [odd] = as_json(config, "quarantine")["quarantined"]
    assert (odd["id"], odd["code"]) == (story.odd, "not-json")
    assert story.odd in ok(config, "quarantine")


def test_a_listing_fits_the_terminal_and_ids_stay_whole(config: str, story: Story) -> None:
    narrow = on_a_terminal(80, "events", "--config", config)
    assert "EVENT / RECEIVED (UTC)" in narrow
    wide = on_a_terminal(250, "events", "--config", config)
    assert wide == ok(config, "events"), "where a line each fits, that is what one gets"
    for columns, text in ((80, narrow), (250, wide)):
        assert max(map(len, text.splitlines())) <= columns
        for id in (story.dead, story.done, story.nowhere):
            assert re.search(rf"^{id}\b", text, re.MULTILINE)


@pytest.mark.parametrize("column", ["events", "quarantine", "dead-letters"])
def test_times_are_taken_as_listings_show_them(config: str, story: Story, column: str) -> None:
    def count(*args: str) -> int:
        return len(ok(config, column, *args).splitlines())

    time = min(re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", ok(config, column)))
    assert count("--since", time, "--until", time) > 1, "all of that second"
    assert ok(config, column, "--until", "2001-01-01").startswith("No")
    rfc3339 = time.replace(" ", "T") + "Z"
    assert (
        count("--since", rfc3339)
        == count("--since", time)
        == count("--since", "1h")
        == count("--since", "2000-01-01")
    )


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["events", "--source", "trustsahre"], "no source is named 'trustsahre'; there are: trustshare, "),
        (["events", "--duplicates", "--source", "nosuch"], "no source is named 'nosuch'; there are: "),
        (["events", "--type", "payment.received,payment.failed"], "there are: payment.received, "),
        (["events", "--state", "ded"], "is not one of 'waiting', 'held', 'done', 'dead'"),
        (["quarantine", "--source", "trustapp"], "no source is named 'trustapp'; there are: trustap, "),
        (["targets", "pauze", "crm"], "Did you mean 'pause'?"),
        (["event"], "Did you mean 'events'?"),
        (["schema", "payment.recieved"], "those are: payment.received, "),
        (["simulate", "trustsahre"], "configured: trustshare (trustshare), "),
        (["simulate", "trustap", "--scenario", "piad"], "trustap has no scenario 'piad'; it has: "),
    ],
)
def test_a_name_that_stands_for_nothing_is_an_error_that_says_which_exist(
    config: str, story: Story, args: list[str], words: str
) -> None:
    failed(CliRunner().invoke(cli, ["--config", config, *args]), 2, words)


def test_a_source_that_left_the_configuration_is_found_by_its_name_still(
    tmp_path: Path, redis_url: str, story: Story
) -> None:
    config = write(tmp_path, redis_url, SOURCES.replace('name = "trustshare"', 'name = "other"') + TARGETS)
    assert len(as_json(config, "events", "--source", "trustshare")["events"]) == 3


@pytest.mark.parametrize(
    "args",
    [
        ["targets", "pause", "ledger", "{}"],
        ["targets", "{}", "disable", "ledger"],
        ["{}", "targets", "resume", "ledger"],
        ["targets", "enable", "ledger", "{}"],
        ["{}", "events"],
        ["events", "{}"],
        ["{}", "targets"],
        ["targets", "{}"],
        ["{}", "dead-letters"],
        ["quarantine", "{}"],
        ["{}", "check"],
        ["{}", "deliveries", "ID"],
        ["{}", "transaction", "trustshare", "tx-1"],
        ["{}", "replay", "ID", "--dry-run"],
        ["admit", "{}", "--all", "--dry-run"],
    ],
)
def test_json_and_config_stand_before_a_verb_or_after_it(config: str, story: Story, args: list[str]) -> None:
    said = ["--json", "--config", config]
    words = [word for arg in args for word in (said if arg == "{}" else [story.dead if arg == "ID" else arg])]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    msgspec.json.decode(result.stdout)


def test_of_two_that_are_said_the_one_nearest_the_verb_counts(config: str, story: Story) -> None:
    assert "no configuration" not in ok(config, "--config", "/nonexistent.toml", "events")
    words = ["--config", "/nonexistent.toml", "targets", "--config", config, "pause", "ledger"]
    assert CliRunner().invoke(cli, words).stdout.startswith("ledger is paused: ")


def test_json_before_a_verb_that_prints_none_is_refused(config: str) -> None:
    failed(run(config, "--json", "secret"), 2, "secret prints no JSON")


def test_progress_is_erased_from_a_terminal_and_never_in_a_pipe(config: str, story: Story) -> None:
    text = on_a_terminal(80, "replay", "--since", "1h", "--yes", "--config", config)
    assert text.splitlines()[-1].startswith("Sent "), text
    text = ok(config, "replay", "--since", "1h", "--to", "crm", "--yes")
    assert " of " not in text


@pytest.mark.parametrize("command", ["events", "dead-letters", "quarantine"])
def test_an_empty_listing_says_so(config: str, command: str) -> None:
    assert ok(config, command).startswith("No")


def test_nothing_is_lost_of_a_long_name(config: str, redis_url: str) -> None:
    async def body(store: Filled) -> list[str]:
        [id] = await store.receive(PAID | {"token": "x" * 300})
        await store.admit("a-target-with-a-name-of-some-length")
        return [id]

    [id] = with_redis(redis_url, body)
    [_, line] = ok(config, "events").splitlines()
    assert line.startswith(id)
    assert "x" * 300 in line, "in a pipe it is not folded"
    for columns in (80, 200):
        text = on_a_terminal(columns, "events", "--config", config)
        assert text.count("x") == 300
        assert max(map(len, text.splitlines())) <= columns


@pytest.mark.case(n=34)
def test_control_characters_reach_no_terminal(config: str, redis_url: str) -> None:
    async def body(store: Filled) -> None:
        [id] = await store.events(1, "ledger")
        await store.settle("ledger", End.DEAD, status=None)
        [field] = await store.client.redis.hkeys(KEYS.attempts(id))
        attempt = Attempt(n=1, at_ms=1, duration_ms=1, error="dns: \x1b[31m", answer="\x1b]0;x\x07[red]")
        await store.client.redis.hset(KEYS.attempts(id), field, msgspec.json.encode(attempt))

    with_redis(redis_url, body)
    [event] = as_json(config, "events")["events"]
    text = ok(config, "dead-letters") + ok(config, "deliveries", event["id"], "--answers")
    assert "\x1b" not in text
    assert "\\x1b[31m" in text
    assert "[red]" in text  # no markup of ours either


def test_no_listing_shows_a_secret_or_what_providers_sent_unasked(config: str, story: Story) -> None:
    ids = [story.dead, story.copy, story.done, story.odd, story.nowhere, story.waiting]
    calls = [
        *(["events", id] for id in ids),
        *(["deliveries", id] for id in ids),
        ["events"],
        ["events", "--duplicates"],
        ["dead-letters"],
        ["quarantine"],
        ["check"],
        ["replay", story.dead, "--dry-run"],
    ]
    for call in calls:
        for form in ([], ["--json"]):
            result = run(config, *call, *form)
            assert result.exit_code == 0
            for canary in CANARIES:
                assert canary not in result.output, call


# -- replay


def test_replay_says_how_many_and_sends_them(config: str, story: Story, redis_url: str) -> None:
    dry = ok(config, "replay", "--dead-letters", "ledger", "--dry-run")
    assert "Would send 1 delivery again:\n  ledger: 1\n" in dry
    assert as_json(config, "dead-letters")["counts"]["ledger"] == 1
    text = ok(config, "replay", "--dead-letters", "ledger", "--yes")
    assert "Sending 1 delivery again:\n  ledger: 1\n" in text
    assert "Sent 1 delivery on the way" in text
    assert as_json(config, "deliveries", story.dead)["deliveries"][0]["state"] == "waiting"
    assert ok(config, "replay", "--dead-letters", "ledger", "--yes") == "Nothing to replay.\n"


def test_replay_takes_events_copies_and_times(config: str, story: Story) -> None:
    result = run(config, "replay", story.copy, "--to", "crm", "--yes", "--json")
    assert msgspec.json.decode(result.stdout)["replayed"]["deliveries"] == {"crm": 1}
    assert story.dead in result.stderr
    again = run(config, "replay", "--since", "1h", "--type", "payment.*", "--yes", "--json")
    assert msgspec.json.decode(again.stdout)["replayed"]["deliveries"] == {"ledger": 1, "crm": 1}
    failed(run(config, "replay", story.odd, "--yes"), 1, "in quarantine")
    failed(run(config, "replay", story.waiting, "--yes"), 1, "not admitted yet")
    assert "--to" in run(config, "replay", story.nowhere, "--yes").stderr


@pytest.mark.parametrize(
    ("args", "word"),
    [
        ([], "say what to replay"),
        (["--dead-letters", "nobody"], "nobody"),
        (["--dead-letters", "ledger", "--to", "cmr"], "'cmr'; there are: crm, ledger"),
        (["--since", "yesterday"], "yesterday"),
        (["--since", "2026-03-02T25:00:00"], "neither a duration"),
        (["--since", "1h", "--source", "trustshar"], "'trustshar'; there are: trustshare, trustap, trustist"),
        (["--since", "1h", "--type", "paymnt.*"], "'paymnt.*'; there are: payment."),
        (["evt_019a7c3b2e1f00c0ffee0", "--since", "1h"], "not several"),
        (["--dead-letters", "ledger"], "--yes"),
    ],
)
def test_a_replay_that_is_not_clear_is_refused(config: str, story: Story, args: list[str], word: str) -> None:
    result = run(config, "replay", *args)
    assert result.exit_code == 2
    assert word in result.stderr.splitlines()[-1]
    assert as_json(config, "dead-letters")["counts"] == {"ledger": 1, "crm": 0}


@pytest.mark.parametrize(("answer", "code", "left"), [(b"y\n", 0, 0), (b"n\n", 1, 1)])
def test_replay_asks_on_a_terminal(config: str, story: Story, answer: bytes, code: int, left: int) -> None:
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer)
        process = subprocess.run(
            [HEADRACE, "replay", "--dead-letters", "ledger", "--config", config],
            stdin=theirs,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == code, process.stderr
    assert "Send 1 delivery? [y/N]" in process.stderr
    assert as_json(config, "dead-letters")["counts"]["ledger"] == left


# -- check


def warned(report: dict[str, Any]) -> list[str]:
    """Return what `check` warned of, but for names that do not resolve where a test runs."""
    return [text for text in report["warnings"] if ".example.com" not in text]


@pytest.mark.case(n=55)
def test_check_shows_what_each_provider_must_be_given(config: str, redis_url: str) -> None:
    text = ok(config, "check")
    for word in (
        "https://hooks.example.com/webhooks/trustshare",
        "https://hooks.example.com/webhooks/trustist/" + Secret(PATH_TOKEN).masked(),
        "HTTP Basic, user name headrace",
        "header x-trustshare-secret",
        "https://ledger.example.com/…",
        "noeviction",
        redis_url,
    ):
        assert word in text
    assert "example.com/hooks" not in text
    shown = ok(config, "check", "--show-secrets")
    for word in (f"/webhooks/trustist/{PATH_TOKEN}", HEADER_SECRET, PASSWORD, TARGET_TOKEN):
        assert word in shown
    assert SIGNING not in shown
    report = as_json(config, "check")
    assert (report["ok"], warned(report), report["redis"]["fitness"]["aof"]) == (True, [], True)


def test_check_warns_of_what_is_probably_a_mistake(tmp_path: Path, redis_url: str) -> None:
    sources = SOURCES.replace(HEADER_SECRET, "short").replace('public_url = "https://hooks.example.com/"', "")
    rest = f"""{sources}
[[targets]]
name = "near"
url = "http://127.0.0.1:9/"
secret = "{SIGNING}"
sources = ["trust*", "stripe"]
events = ["payments.*", "source.*"]
[[targets]]
name = "plain"
url = "http://plain.example.com/"
secret = "{SIGNING}"
[[targets]]
name = "inside"
url = "http://localhost:9/"
secret = "{SIGNING}"
allow_private = true
"""
    config = write(tmp_path, redis_url, rest)
    report = as_json(config, "check")
    warnings = "\n".join(report["warnings"])
    for word in ("'stripe'", "'payments.*'", "'source.*'", "secrets is shorter", "allow_private", "http://"):
        assert word in warnings
    assert "inside" not in warnings
    assert "did you mean 'payment.*'?" in warnings
    assert "ingress.public_url: is not set" in warnings
    assert len(warned(report)) == 7
    assert "allow_private" in report["targets"][0]["address"]
    assert report["sources"][0]["urls"] == ["http://127.0.0.1:8000/webhooks/trustshare"]
    empty = as_json(write(tmp_path, redis_url, ""), "check")["warnings"]
    assert [warning.partition(":")[0] for warning in empty] == ["sources", "targets"]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            'filter = "data.money.amount_minor"',
            "filter: it gives neither true nor false for payment.completed, payment.failed, ",
        ),
        ("filter = \"'payment.received'\"", "filter: it gives neither true nor false"),
        (
            'filter = "data.muney.amount_minor > 1"',
            "filter: it meets a field that is not there: 'muney', in none",
        ),
        (
            'events = ["paymnt.*"]',
            "events: 'paymnt.*' matches no event type that is sent; did you mean 'payment.*'?",
        ),
        ('events = ["payment.recieved"]', "did you mean 'payment.received'?"),
        ('sources = ["trustshar"]', "sources: 'trustshar' matches no source; did you mean 'trustshare'?"),
    ],
)
def test_check_warns_of_what_can_never_match(tmp_path: Path, redis_url: str, keys: str, words: str) -> None:
    target = f'[[targets]]\nname = "odd"\nurl = "https://1.1.1.1/"\nsecret = "{SIGNING}"\n'
    config = write(tmp_path, redis_url, SOURCES + target + keys)
    [warning] = as_json(config, "check")["warnings"]
    assert warning.startswith("targets[0] (odd): ")
    assert words in warning
    text = ok(config, "check")
    assert "All is well" not in text
    assert "It can run, with 1 warning: see above." in text
    for good in (
        'filter = "data.money.amount_minor > 1"',
        "filter = \"type == 'payment.failed'\"",
        'events = ["pay*.received"]',
    ):
        assert "All is well." in ok(write(tmp_path, redis_url, SOURCES + target + good), "check")


def test_check_warns_of_names_that_do_not_resolve_unless_a_proxy_looks_them_up(
    tmp_path: Path, redis_url: str
) -> None:
    target = f'[[targets]]\nname = "away"\nurl = "https://nosuch.invalid/hook"\nsecret = "{SIGNING}"\n'
    [warning] = as_json(write(tmp_path, redis_url, SOURCES + target), "check")["warnings"]
    assert warning.startswith("targets[0] (away): url: nosuch.invalid ")
    assert warning.endswith("until then every attempt fails")
    proxy = '[egress]\nproxy = "http://127.0.0.1:3128"\nproxy_resolves = true\n'
    assert as_json(write(tmp_path, redis_url, SOURCES + proxy + target), "check")["warnings"] == []
    proxy = '[egress]\nproxy = "http://proxy.invalid:3128"\nproxy_resolves = true\n'
    [warning] = as_json(write(tmp_path, redis_url, SOURCES + proxy + target), "check")["warnings"]
    assert warning.startswith("egress.proxy: proxy.invalid ")


def test_check_says_what_waits_for_somebody(config: str, redis_url: str, story: Story) -> None:
    ok(config, "targets", "disable", "crm")
    said = warned(as_json(config, "check"))
    assert said == [
        "target ledger has 1 dead letter: headrace dead-letters --target ledger",
        "target crm is disabled (disabled by hand): headrace targets",
        "1 request in quarantine: headrace quarantine",
    ]
    text = ok(config, "check")
    for warning in said:
        assert f"- {warning}" in text
    assert "All is well" not in text


MATCHING = f"""
[[targets]]
name = "all"
url = "https://a.example.com/"
secret = "{SIGNING}"
[[targets]]
name = "payouts"
url = "https://b.example.com/"
events = ["payout.*"]
secret = "{SIGNING}"
[[targets]]
name = "elsewhere"
url = "https://c.example.com/"
sources = ["trustap"]
secret = "{SIGNING}"
[[targets]]
name = "large"
url = "https://d.example.com/"
filter = "data.money.amount_minor > 150000"
secret = "{SIGNING}"
[[targets]]
name = "disputed"
url = "https://e.example.com/"
filter = "data.details.reason == 'x'"
secret = "{SIGNING}"
"""


def test_check_says_which_targets_an_event_matches_and_why_not_the_others(
    config: str, story: Story, tmp_path: Path, redis_url: str
) -> None:
    canonical, body = tmp_path / "event.json", tmp_path / "body.json"
    canonical.write_bytes(ok(config, "events", story.done, "--payload").encode())
    body.write_bytes(msgspec.json.encode(PAID))
    away = write(tmp_path, "unix:///nowhere.sock", SOURCES + MATCHING)
    reports = [
        as_json(away, "check", "--event", str(canonical)),
        as_json(away, "check", "--event", str(body), "--source", "trustshare"),
    ]
    for report in reports:
        assert (report["source"], report["type"]) == ("trustshare", "payment.received")
        assert [match["target"] for match in report["targets"] if match["matches"]] == ["all"]
        reasons = {match["target"]: match["why_not"] for match in report["targets"]}
        assert reasons["all"] is None
        assert reasons["payouts"] == "events: 'payment.received' matches none of 'payout.*'"
        assert reasons["elsewhere"] == "sources: 'trustshare' matches none of 'trustap'"
        assert reasons["large"] == "filter: it is false"
        assert reasons["disputed"] == "filter: it meets a field that is not there: 'reason'"
    text = ok(away, "check", "--event", str(canonical))
    for word in ("payment.received from trustshare", "all", "yes", "it is false"):
        assert word in text
    assert E_MAIL not in text


def test_check_says_what_is_no_event(config: str, tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    file.write_bytes(msgspec.json.encode({"type": "payment_received"}))
    failed(run(config, "check", "--event", str(file)), 1, "no canonical event", "--source")
    failed(run(config, "check", "--event", str(file), "--source", "trustapp"), 2, "there are: trustap, ")
    file.write_bytes(b"no JSON")
    failed(run(config, "check", "--event", str(file), "--source", "trustshare"), 1, "quarantined: not-json")
    failed(run(config, "check", "--source", "trustshare"), 2, "--event")
    file.write_bytes(msgspec.json.encode({"type": "handshake"}))
    report = as_json(config, "check", "--event", str(file), "--source", "trustshare")
    assert not any(match["matches"] for match in report["targets"])


def test_check_shows_public_keys_and_the_way_out_and_no_credentials(tmp_path: Path, redis_url: str) -> None:
    secret = new_asymmetric_secret()
    rest = f"""
[egress]
proxy = "http://user:{PASSWORD}@proxy.example.com:3128"
[[targets]]
name = "ledger"
url = "https://ledger.example.com/"
secret = ["{secret}", "{SIGNING}"]
headers = {{ "x-key" = "{PATH_TOKEN}" }}
auth = {{ bearer = "{TARGET_TOKEN}" }}
"""
    text = ok(write(tmp_path, redis_url, rest), "check", "--show-secrets")
    public = signing_key(Secret(secret)).public
    assert public is not None
    assert public in text
    assert "http://proxy.example.com:3128" in text
    assert not any(canary in text for canary in (*CANARIES, secret))


def test_check_fails_where_redis_is_away_and_shows_no_password(tmp_path: Path) -> None:
    config = write(tmp_path, f"redis://:{REDIS_PASSWORD}@127.0.0.1:1/0")
    result = run(config, "check")
    assert result.exit_code == 1
    assert "unreachable  connection refused\n" in result.stdout
    assert result.stdout.count("127.0.0.1:1/") == 1, "the address is said once"
    assert "https://hooks.example.com/webhooks/trustshare" in result.stdout
    assert REDIS_PASSWORD not in result.output
    listing = run(config, "events")
    failed(listing, 1, "redis://127.0.0.1:1/0")
    assert REDIS_PASSWORD not in listing.output


def test_a_socket_that_nobody_made_is_told_as_a_redis_that_does_not_run(tmp_path: Path) -> None:
    config = write(tmp_path, f"unix://{tmp_path}/redis.sock")
    failed(run(config, "events"), 1, f"Redis at unix://{tmp_path}/redis.sock: none runs there", "headrace up")


def test_check_fails_where_redis_is_unfit(config: str, redis_url: str) -> None:
    async def body(store: Filled) -> None:
        await store.client.redis.config_set("maxmemory-policy", "allkeys-lru")

    async def undo(store: Filled) -> None:
        await store.client.redis.config_set("maxmemory-policy", "noeviction")

    with_redis(redis_url, body)
    try:
        result = run(config, "check")
    finally:
        with_redis(redis_url, undo)
    assert result.exit_code == 1
    assert "set noeviction" in result.stdout


# -- the command line


@pytest.mark.parametrize("command", ["check", "events", "dead-letters", "quarantine"])
def test_a_mistake_in_the_configuration_is_one_line_before_any_socket_opens(
    tmp_path: Path, command: str
) -> None:
    # An address that would hang: nothing may dial it.
    config = write(tmp_path, "redis://192.0.2.1:6379/0", SOURCES.replace("username", "user_name"))
    failed(run(config, command), 2, "sources[1].")


def test_without_a_configuration_the_one_line_says_how_to_give_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEADRACE_CONFIG", raising=False)
    result = CliRunner().invoke(cli, ["events"], prog_name="headrace")
    failed(result, 2, "--config", "HEADRACE_CONFIG")


def test_the_configuration_may_come_from_the_environment(
    config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_CONFIG", config)
    assert CliRunner().invoke(cli, ["events"]).stdout == "No events match.\n"


def test_secret_prints_a_fresh_signing_secret() -> None:
    first, second = (CliRunner().invoke(cli, ["secret"]).stdout.strip() for _ in range(2))
    assert first != second
    assert all(signing_key(Secret(secret)).public is None for secret in (first, second))


def test_secret_prints_an_asymmetric_secret_with_its_public_key() -> None:
    lines = CliRunner().invoke(cli, ["secret", "--asymmetric"]).stdout.splitlines()
    private, public = (line.split()[-1] for line in lines)
    assert private.startswith("whsk_")
    assert signing_key(Secret(private)).public == public


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_there_and_has_help(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from shared.cli import cli; cli(['--help'], standalone_mode=False);"
        "sys.exit(any(name.startswith(('shared.cli.', 'redis', 'rich.')) for name in sys.modules))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 0
    assert "dead-letters" in process.stdout


def test_the_installed_command_ends_with_the_contracts_codes(config: str, story: Story) -> None:
    def code(*args: str) -> int:
        return subprocess.run([HEADRACE, *args], capture_output=True, check=False).returncode

    assert code("events", "--config", config) == 0
    assert code("events", event_id("trustshare", "1-0"), "--config", config) == 1
    assert code("nonsense") == 2
    assert code("events", "--nonsense") == 2
