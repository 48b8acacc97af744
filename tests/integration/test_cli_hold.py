"""`headrace hold`: places, lists and lifts holds, says what it keeps, and audits who did it."""

from pathlib import Path

import msgspec
import pytest

from shared.cli.consent import user
from tests.integration.archive import Stage, on_stage
from tests.integration.old import Past
from tests.integration.test_cli import SOURCES, TARGETS, as_json, failed, ok, run, write


@pytest.fixture
def archive_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'archive.db'}"


@pytest.fixture
def config(tmp_path: Path, redis_url: str, archive_url: str) -> str:
    return write(tmp_path, redis_url, f'[archive]\nurl = "{archive_url}"\n{SOURCES}{TARGETS}')


@pytest.fixture
def events(redis_url: str, archive_url: str) -> list[str]:
    """Archived events: of a transaction, of another source, and of this month."""
    ids: list[str] = []

    async def play(stage: Stage) -> None:
        past = await Past.of(stage)
        ids.extend(
            [
                past.event("2019_02", token="tx-7"),
                past.event("2019_03", token="tx-7"),
                past.event("2019_02", "gone-source"),
            ]
        )
        past.close()

    on_stage(redis_url, archive_url, play)
    return ids


def test_holds_are_placed_listed_and_lifted(config: str, events: list[str]) -> None:
    assert "Nothing is held." in ok(config, "hold")
    placed = ok(config, "hold", "trustshare", "tx-7", "--reason", "case 7")
    assert "keeps transaction tx-7 of trustshare: 2 archived events now." in placed
    ok(config, "hold", events[2], "--reason", "a complaint")
    span = ("--source", "gone-source", "--since", "2019-02-01", "--until", "2019-02-28 23:59:59")
    ok(config, "hold", *span, "--reason", "tax office")
    listed = ok(config, "hold")
    for text in (
        "case 7",
        "a complaint",
        "tax office",
        user(),
        "source gone-source since 2019-02-01 00:00:00",
    ):
        assert text in listed
    holds = as_json(config, "hold")["holds"]
    assert [(hold["keeps"], hold["events"]) for hold in holds] == [
        ({"provider": "trustshare", "transaction_id": "tx-7"}, 2),
        ({"event": events[2]}, 1),
        (
            {
                "source": "gone-source",
                "since": "2019-02-01T00:00:00.000Z",
                "until": "2019-02-28T23:59:59.999Z",
            },
            1,
        ),
    ]
    id = holds[0]["id"]
    failed(run(config, "hold", "--lift", id), 2, "add --yes")
    lifted = run(config, "hold", "--lift", id, "--yes", "--json")
    assert msgspec.json.decode(lifted.stdout) == holds[0] | {"lifted": True}
    assert [hold["id"] for hold in as_json(config, "hold")["holds"]] == [hold["id"] for hold in holds[1:]]
    failed(run(config, "hold", "--lift", id, "--yes"), 2, holds[1]["id"])


def test_who_held_what_and_why_is_in_the_audit(config: str, events: list[str]) -> None:
    id = as_json(config, "hold", events[0], "--reason", "case 7")["id"]
    ok(config, "hold", "--lift", id, "--yes")
    lifted, placed = as_json(config, "audit")["audit"]
    assert (placed["action"], lifted["action"]) == ("hold", "hold lifted")
    for entry in (placed, lifted):
        assert entry["user"] == user()
        assert entry["selected"] == {"hold": id, "reason": "case 7", "event": events[0]}
        assert entry["planned"] == {"events": {"archived": 1}}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("trustshare", "tx-7"), "say why: --reason TEXT"),
        (("trustshare", "tx-7", "--reason", " "), "say why: --reason TEXT"),
        (("trustshare", "tx-8", "--reason", "x"), "no event of trustshare's transaction tx-8 is here"),
        (("trustshore", "tx-7", "--reason", "x"), "no provider is named 'trustshore'; there are: trustshare"),
        (("tx-7", "--reason", "x"), "'tx-7' is not an event id"),
        (("evt_019a7c3b2e1f00c0ffee0", "--reason", "x"), "evt_019a7c3b2e1f00c0ffee0 is not here"),
        (("one", "two", "three", "--reason", "x"), "one EVENT, or one PROVIDER and TRANSACTION"),
        (("--source", "nobody", "--reason", "x"), "no source is named 'nobody'"),
        (("--since", "2d", "--reason", "x"), "--source NAME"),
        (("--reason", "x"), "say what to hold"),
        (("--lift", "hold_1", "--reason", "x"), "nothing beside it"),
        (("--lift", "hold_1", "--yes"), "nothing is held"),
    ],
)
def test_a_wrong_call_says_what_is_wrong_and_holds_nothing(
    config: str, events: list[str], args: tuple[str, ...], says: str
) -> None:
    result = run(config, "hold", *args)
    failed(result, result.exit_code or -1, says)
    assert as_json(config, "hold") == {"holds": []}


def test_without_an_archive_nothing_can_be_held(tmp_path: Path, redis_url: str) -> None:
    config = write(tmp_path, redis_url)
    failed(run(config, "hold"), 1, "there is no archive: archive.url is not set")
