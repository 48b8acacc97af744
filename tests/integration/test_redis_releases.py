"""The store works with the minor releases of redis-py that are allowed, and with the newest that there is."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.documents.markers import ROOT

CENTRAL = [f"tests/integration/test_{name}.py" for name in ("client", "inbox", "order", "due")]
CENTRAL.append("tests/acceptance/test_sentinel.py")


def allowed() -> str:
    """Return which releases pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [wanted] = [str(line) for line in project["dependencies"] if line.startswith("redis[")]
    return wanted.removeprefix("redis[hiredis]")


OLDEST = allowed().partition(",")[0].replace(">=", "==")


@pytest.mark.parametrize("release", [OLDEST, "==8.0.*", ">=8.1"])
def test_the_central_tests_of_the_store_pass_with_it(release: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
    argv += ["--disable-pip-version-check", "--retries", "0", "--target", str(tmp_path)]
    installed = subprocess.run([*argv, f"redis{release}"], capture_output=True, timeout=120, check=False)
    if installed.returncode:
        pytest.skip("no package registry answers")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    which = [sys.executable, "-c", "import redis; print(redis.__file__)"]
    assert str(tmp_path) in subprocess.run(which, capture_output=True, text=True, env=env, check=True).stdout
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *CENTRAL]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, env=env, timeout=170, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
