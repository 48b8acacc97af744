"""A worker that is told to stop while it starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.gateway import SOURCES

TOLD_AMID = """
import os, signal, sys

class Field:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), signal.{signal})

class Finder:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            type("Class", (), {{"field": Field()}})

sys.meta_path.insert(0, Finder())
from workers.__main__ import main
sys.argv = ["workers", "--config", sys.argv[1]]
sys.exit(main())
"""


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("module", ["celery.app.amqp", "celery.app.control"])
def test_a_worker_told_to_stop_amid_an_import_ends_well(
    folder: Path, redis_url: str, module: str, number: str
) -> None:
    """Amid the making of a class Python makes another exception of SystemExit."""
    file = folder / "headrace.toml"
    file.write_text(f'[redis]\nurl = "{redis_url}"\n{SOURCES}')
    done = subprocess.run(
        [sys.executable, "-c", TOLD_AMID.format(module=module, signal=number), str(file)],
        env={**os.environ, "HEADRACE_LOG_FORMAT": "json"},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "worker starts" in done.stderr
    assert done.returncode == 0, done.stderr
