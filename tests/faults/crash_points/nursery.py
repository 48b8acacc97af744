"""Starts the processes under test: it has loaded the program once, and forks, so that a start costs no second.

`python -m tests.faults.crash_points.nursery` reads one JSON object a line: `main` (`worker`, `ingress`,
`headrace`), `argv`, `log`, `kill`, `record` (see hook.py), `at_the_end` (count from when a worker is told to stop).
For each it prints the process's id, waits for its end and
prints how it ended. What runs in the fork is the same `main` as ever, and it ends by a real SIGKILL.
"""

import ctypes
import gc
import importlib
import json
import os
import signal
import sys
import traceback
from functools import partial
from itertools import cycle
from typing import Any

import ingress.__main__
import ingress.acceptance
import shared.cli.admit
import shared.cli.replay
import shared.cli.targets
import shared.store.upkeep
import workers.__main__
import workers.admit
import workers.archiving
import workers.deliver
import workers.packing
import workers.runtime
import workers.sweep
import workers.watchdog
from shared.cli import cli
from shared.process import logs
from shared.store.admission import Entry
from shared.store.doorbell import ADMIT, Doorbell, envelope
from shared.store.inbox import Inbox
from shared.store.packer import Packer
from tests.faults.crash_points import hook
from tests.faults.crash_points.scenario import STOP_WITHIN_S

_PR_SET_PDEATHSIG = 1
_CELERY_STARTS_WITH = (
    *("celery.apps.worker", "celery.concurrency.solo", "billiard.pool"),
    *("kombu.transport.redis", "kombu.pidbox", "kombu.matcher"),
)


def _quicken() -> None:
    """Let what is done now and then come soon. These are rhythms: no time that anything's safety rests on.

    Leases and the like keep their length, so that a slow machine does not end one of a process that lives; the
    tests age what a killed process held instead.
    """
    workers.sweep.SWEEP_S = 0.05
    workers.sweep.TIDY_S = 0.1
    workers.packing.LOOK_S = 0.05
    workers.archiving.LOOK_S = 0.05
    workers.packing.Packer = partial(Packer, after_ms=-1000)  # type: ignore[assignment, attr-defined]
    shared.store.upkeep.SWEEP_LEASE_MS = 30
    workers.runtime.LOOK_AT_FILE_S = 0.1
    workers.watchdog.WATCH_S = 0.1
    ingress.acceptance.WATCH_S = 0.1


def _stop_soon() -> None:
    """Have a worker that is told to stop wait less for what it has in hand, and say that it stops."""
    drain = workers.deliver.Deliverer.drain

    async def drained(self: workers.deliver.Deliverer, grace_s: float) -> None:
        hook.awake()
        await drain(self, STOP_WITHIN_S)

    workers.deliver.Deliverer.drain = drained  # type: ignore[method-assign]


def _end_every_second_turn_by_time() -> None:
    """Have every second turn of admission come to the end of its time, and the others find nothing more."""
    begin_turn, times_s = Inbox.begin_turn, cycle((workers.admit.IN_TURN_S, 0.0))

    async def begun(self: Inbox, source: str, holder: str) -> list[Entry] | None:
        entries = await begin_turn(self, source, holder)
        workers.admit.IN_TURN_S = next(times_s)
        return entries

    Inbox.begin_turn = begun  # type: ignore[method-assign]


def _run(main: str, argv: list[str], log: str, kill: str | None, record: str | None, at_the_end: bool) -> int:
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number in (1, 2):
        os.dup2(output, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _die_with_parent()
    os.environ["HEADRACE_LOG_FORMAT"] = "json"
    sys.argv = [main, *argv]
    hook.arm(kill, record, asleep=at_the_end)
    if main == "worker":
        return workers.__main__.main()
    if main == "ingress":
        return ingress.__main__.main()
    cli(prog_name="headrace")
    return 0


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _child(request: dict[str, Any]) -> None:
    code = 70
    try:
        code = _run(**request)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        logs.flush()
        os._exit(code)


def main() -> None:
    """Serve until standard input ends."""
    _die_with_parent()
    hook.install()
    _quicken()
    _stop_soon()
    _end_every_second_turn_by_time()
    for module in _CELERY_STARTS_WITH:
        importlib.import_module(module)
    envelope(Doorbell(ADMIT, ""))  # and what it imports to render a message
    gc.collect()
    gc.freeze()  # what all of them share no collection need go through again, in each of them
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _child(request)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    # Under its own name the hook would be another module than the one that others import.
    importlib.import_module("tests.faults.crash_points.nursery").main()
