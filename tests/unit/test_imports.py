"""What every process loads as it starts, and what only those that use it load."""

import subprocess
import sys

import pytest

LOADED = "import sys; import {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"


@pytest.mark.parametrize("module", ["ingress.__main__", "workers.__main__", "shared.cli.up"])
def test_no_process_loads_what_few_configurations_need(module: str) -> None:
    """SQLAlchemy takes a quarter of a second of processor time, the expressions' command line an eighth."""
    code = LOADED.format(module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "shared" in done.stdout.split()
    assert not {"cel", "prompt_toolkit", "sqlalchemy", "alembic", "psycopg"} & set(done.stdout.split())
