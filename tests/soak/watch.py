"""What a soak watches beside the events: memory, processes left behind, and what the log calls an error."""

import json
import os
import statistics
from collections import Counter, defaultdict
from pathlib import Path

import msgspec

from tests.acceptance.gateway import Gateway

KINDS = ("ingress", "workers", "redis-server")
GROWN = 3.0
"""How many times its first size is more than a process's warming up explains."""


class Memory(msgspec.Struct, frozen=True):
    """Resident MiB of a kind's processes: the median of the first and of the last samples, and the most."""

    first: float
    last: float
    most: float

    @property
    def grew(self) -> bool:
        return self.last > GROWN * self.first


class MemoryWatch:
    """Samples the gateway's processes."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._samples: defaultdict[str, list[float]] = defaultdict(list)

    def sample(self) -> None:
        """Look at every process now."""
        for kind in KINDS:
            for pid in self._gateway.children(kind):
                try:
                    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                except (OSError, IndexError):
                    continue  # it was killed meanwhile
                size = pages * os.sysconf("SC_PAGE_SIZE") / 1024**2
                # One that has just been forked, or has just begun to import, tells nothing.
                if size > 20 or kind == "redis-server":
                    self._samples[kind].append(size)

    def summary(self) -> dict[str, Memory]:
        """Compare the first tenth of the samples with the last."""
        found = {}
        for kind, samples in self._samples.items():
            share = max(1, len(samples) // 10)
            first, last = statistics.median(samples[:share]), statistics.median(samples[-share:])
            found[kind] = Memory(round(first, 1), round(last, 1), round(max(samples), 1))
        return found


def left_behind(folder: Path) -> list[str]:
    """Return the command lines of processes that still run on a gateway's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                argv = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
            if str(folder) in argv:
                found.append(f"{entry.name}: {argv}")
    return found


def errors(log: Path) -> dict[str, int]:
    """Count a log's lines of level error or worse, by event and reason, and what is no log line at all."""
    found: Counter[str] = Counter()
    with log.open(errors="replace") as lines:
        for line in lines:
            try:
                fields = json.loads(line)
            except ValueError:
                if line.startswith("Traceback"):
                    found["traceback"] += 1
                continue
            if isinstance(fields, dict) and fields.get("level") in {"error", "critical"}:
                said = f"{fields.get('event')}: {fields.get('reason') or fields.get('error') or ''}"
                found[" ".join(said.replace(str(log.parent), "…").split())[:120]] += 1
    return dict(found.most_common())
