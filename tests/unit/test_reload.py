"""A changed configuration file is taken up whole, or not at all."""

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shared.config.reload import ConfigFile

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def target(name: str) -> str:
    return f'[[targets]]\nname = "{name}"\nurl = "https://example.com/{name}"\nsecret = "{SECRET}"\n'


def names(file: ConfigFile) -> list[str]:
    return [target.name for target in file.config.targets]


@pytest.fixture
def file(tmp_path: Path) -> ConfigFile:
    path = tmp_path / "headrace.toml"
    path.write_text(target("one") + target("two"))
    return ConfigFile(path)


@pytest.mark.case(n=57)
def test_half_a_file_is_never_taken_up(file: ConfigFile) -> None:
    """An editor writes in steps, and half a file may be valid: it lacks half of the targets."""
    file.path.write_text(target("three"))
    assert not file.reload(), "it may be half"
    with file.path.open("a") as half:
        half.write(target("four"))
    assert not file.reload(), "it changes still"
    assert names(file) == ["one", "two"]
    assert file.reload(), "two looks found the same"
    assert names(file) == ["three", "four"]
    assert not file.reload()


@pytest.mark.case(n=57)
def test_a_file_that_is_away_for_a_moment_changes_nothing(file: ConfigFile) -> None:
    text = file.path.read_text()
    file.path.unlink()
    assert not file.reload()
    assert not file.reload()
    file.path.write_text(text.replace('"one"', '"uno"'))
    assert not file.reload()
    assert file.reload()
    assert names(file) == ["uno", "two"]


@pytest.mark.case(n=55)
@pytest.mark.parametrize(
    "emptied", ["", "\n# nothing\n", "[ingress]\nport = 8001\n", "sources = []\ntargets = []\n"]
)
def test_an_emptied_file_is_not_taken_up_and_the_error_says_so(file: ConfigFile, emptied: str) -> None:
    with capture_logs() as lines:
        file.path.write_text(emptied)
        assert not file.reload()
        assert not file.reload()
        assert not file.reload(), "it is said once"
        assert not file.reload(always=True), "not after SIGHUP either"
    assert names(file) == ["one", "two"]
    assert [line["log_level"] for line in lines] == ["error", "error"]
    assert all("neither sources nor targets" in line["problem"] for line in lines)
    file.path.write_text(target("three"))
    assert file.reload(always=True)
    assert names(file) == ["three"]


@pytest.mark.timeout(60)
def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(file: ConfigFile) -> None:
    """Nobody may ever write to it, and whoever opens it waits until then."""
    file.path.unlink()
    os.mkfifo(file.path)
    with capture_logs() as lines:
        assert not file.reload()
        assert not file.reload()
        assert not file.reload(always=True)
    assert names(file) == ["one", "two"]
    assert [line["problem"] for line in lines] == [f"{file.path}: is no file any more"] * 2
    file.path.unlink()
    file.path.write_text(target("three"))
    assert file.reload(always=True)


def test_a_start_without_sources_and_targets_is_no_mistake_and_may_stay_so(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text("")
    file = ConfigFile(path)
    path.write_text("[ingress]\nmax_body_bytes = 1000\n")
    assert file.reload(always=True)
    assert file.config.ingress.max_body_bytes == 1000
