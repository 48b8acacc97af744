"""The gate takes the open files that its connections need, or says how many it can have."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
soft, hard, connections = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from ingress.server.gate import Gate
from shared.settings import IngressSettings
gate = Gate(IngressSettings(max_connections=connections))
print(gate.max_connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "granted", "files"),
    [
        pytest.param(1024, 1024, 100, 100, 1024, id="enough"),
        pytest.param(256, 1024, 800, 800, 928, id="raised as far as needed"),
        pytest.param(256, 1024, 5000, 896, 1024, id="fewer than configured"),
    ],
)
def test_as_many_files_as_connections_need_or_fewer_connections(
    soft: int, hard: int, connections: int, granted: int, files: int
) -> None:
    argv = [sys.executable, "-c", PROGRAM, str(soft), str(hard), str(connections)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    # Where there is no logging yet, a warning goes to standard output as well.
    assert done.stdout.splitlines()[-1] == f"{granted} {files}"
    assert ("fewer connections than ingress.max_connections" in done.stdout) == (granted < connections)
