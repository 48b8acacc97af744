"""`deploy/env`: the environment that Headrace runs in."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_an_environment_that_cannot_be_made_leaves_the_one_before_it(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    for name in ("deploy/env", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    for extra in ("", "-embedded", "-postgresql", "-test", "-bench"):
        (tmp_path / f"deploy/requirements{extra}.lock").write_text("nothing==1 --hash=sha256:" + "0" * 64)
    before = tmp_path / ".venv/bin/headrace"
    before.parent.mkdir(parents=True)
    before.write_text("the one before")
    made = subprocess.run(
        [tmp_path / "deploy/env"],
        env=os.environ | {"PIP_NO_INDEX": "1"},  # no package is to be had
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 1
    assert "the packages of deploy/requirements.lock could not be installed" in made.stderr
    assert before.read_text() == "the one before"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".venv", "deploy", "pyproject.toml"]
