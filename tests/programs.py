"""Programs that tests run and that the machine must bring: see "What a machine needs" in README.md."""

import os
import shutil
from pathlib import Path

import pytest


def program(name: str, package: str) -> str:
    """Return the path of a program, which Debian's `package` installs.

    Without it the test is skipped. In CI it fails there: what nobody has installed is not tested.
    """
    # Debian keeps a folder for each version of PostgreSQL, and has only some of its programs on PATH.
    postgresql = sorted(
        Path("/usr/lib/postgresql").glob("[0-9]*/bin"), key=lambda at: float(at.parent.name), reverse=True
    )
    folders = [*map(str, postgresql), *os.get_exec_path(), "/usr/local/sbin", "/usr/sbin"]
    if found := shutil.which(name, path=os.pathsep.join(folders)):
        return found
    missing = f"{name} is not installed (Debian: apt-get install {package})"
    if os.environ.get("CI"):
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)
