"""The supervisor: a child that cannot be started is tried again until it can."""

import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shared.process.supervisor import Child, Supervisor

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.mark.case(n=43)
@pytest.mark.parametrize("what", ["program", "output"])
def test_a_start_that_fails_is_said_and_tried_again(what: str, tmp_path: Path) -> None:
    later = tmp_path / "later"
    program = later / "program"
    argv = [str(program)] if what == "program" else SLEEPS
    child = Child("late", argv, output=str(later / "output") if what == "output" else None)
    other = Child("other", SLEEPS)
    turns = 0

    def until() -> bool:
        nonlocal turns
        turns += 1
        if turns == 3:
            assert child.process is None
            later.mkdir()
            program.write_text("#!/bin/sh\nexec sleep 600\n")
            program.chmod(0o755)
        return child.process is not None or turns > 300

    with capture_logs() as said:
        supervisor = Supervisor()
        try:
            supervisor.start(child, other)
            assert supervisor.run(until=until) == 0
            assert child.process is not None
            assert other.process is not None
            assert child.process.poll() is None
        finally:
            supervisor.stop()
    assert {line["event"] for line in said} == {"child cannot be started, trying again"}
    assert said[0]["reason"] == "No such file or directory"
    assert said[0]["child"] == "late"
