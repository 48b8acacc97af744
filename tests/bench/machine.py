"""What a figure was measured on."""

import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from shared.process.embedded import find_server, server_version
from tests.bench.load import generator

SYNCS = 300


def describe(folder: Path | None) -> dict[str, str]:
    """Return the machine, the versions, and what a write to the disk costs."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    packages = ("starlette", "uvicorn", "celery", "redis", "uvloop", "httptools", "aiohttp")
    median, worst = fdatasync_ms(folder)
    return {
        "machine": f"{os.cpu_count()} cores, {model}, load {os.getloadavg()[0]:.1f} at the start",
        "python": platform.python_version(),
        "redis": ".".join(map(str, server_version(find_server()))) + ", appendfsync always",
        "packages": ", ".join(f"{name} {version(name)}" for name in packages),
        "load": generator(),
        "sink": nginx_version(),
        "fdatasync": f"{median:.2f} ms median, {worst:.2f} ms p99, of {SYNCS}",
    }


def nginx_version() -> str:
    if not shutil.which("nginx"):
        return "own server"
    said = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
    return said.rpartition(" ")[2].strip()


def fdatasync_ms(folder: Path | None) -> tuple[float, float]:
    """Return the median and the 99th percentile of appending 600 bytes and waiting for the disk."""
    waits = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(SYNCS):
            file.write(b"x" * 600)
            file.flush()
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            waits.append((time.perf_counter() - started) * 1000)
    return statistics.median(waits), statistics.quantiles(waits, n=100)[98]
