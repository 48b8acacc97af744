"""A sink for every acceptance test, and folders with names short enough for a socket."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.sink import Sink


@pytest.fixture
def sink() -> Iterator[Sink]:
    server = Sink()
    yield server
    server.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hr-", ignore_cleanup_errors=True) as name:
        yield Path(name)
