"""What every process loads as it starts, and what only those that use it load."""

import subprocess
import sys

import pytest

LOADED = "import sys; import {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"


@pytest.mark.parametrize("module", ["ingress.__main__", "workers.__main__", "shared.cli.up"])
def test_no_process_loads_the_command_line_of_the_expressions_library(module: str) -> None:
    """It takes an eighth of a second of processor time, and most configurations have no expression."""
    code = LOADED.format(module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "shared" in done.stdout.split()
    assert not {"cel", "prompt_toolkit"} & set(done.stdout.split())
