"""Load: as many requests as a server takes, by `wrk` where it is installed, else by our own client."""

import json
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

CONNECTIONS = 64

# A template is filled in with JSON, whose strings Lua reads alike.
_WRK = """
wrk.method = "POST"
wrk.body = %s
for name, value in string.gmatch(%s, "([^:\\n]+): ([^\\n]*)") do wrk.headers[name] = value end
done = function(summary, latency)
  local errors = summary.errors
  io.stderr:write(string.format('{"requests":%%d,"seconds":%%f,"failed":%%d,"p50":%%f,"p99":%%f}',
    summary.requests, summary.duration / 1e6,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


class Load(NamedTuple):
    """What came of it."""

    per_second: float
    p50_ms: float
    p99_ms: float


def generator() -> str:
    return "wrk" if shutil.which("wrk") else "own client"


def hammer(
    port: int,
    path: str,
    headers: dict[str, str],
    body: bytes,
    *,
    seconds: float,
    connections: int = CONNECTIONS,
) -> Load:
    """POST the same request over and over. Raises: RuntimeError where one was not answered 200."""
    lines = "".join(f"{name}: {value}\n" for name, value in headers.items())
    if shutil.which("wrk"):
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(_WRK % (json.dumps(body.decode()), json.dumps(lines)))
            script.flush()
            argv = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", script.name]
            done = subprocess.run(
                [*argv, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True
            )
            found = json.loads(done.stderr)
    else:
        request = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{lines.replace(chr(10), chr(13) + chr(10))}"
        whole = f"{request}content-length: {len(body)}\r\n\r\n".encode() + body
        argv = [sys.executable, "-m", "tests.bench.client", str(port), str(connections), str(seconds)]
        done = subprocess.run(argv, input=whole.hex(), capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
    if found["failed"] or not found["requests"]:
        raise RuntimeError(f"{found['failed']:.0f} of {found['requests']:.0f} requests failed")
    return Load(found["requests"] / found["seconds"], found["p50"], found["p99"])
