"""Runs child processes: it starts them, restarts those that die, stops them in order, and leaves none behind.

Celery workers exit when Redis restarts, so something must start them again. In `headrace up`, `headrace
ingress` and `headrace worker` this does, also without systemd or a container runtime.
"""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from shared.process.terminal import Terminal

log = structlog.get_logger()

EXIT_CONFIG = 2
"""A child's exit code if it cannot use its configuration or its Redis: a restart would not help."""

RESTART_AFTER_S = 0.3
RESTART_AFTER_AT_MOST_S = 5.0
LONG_LIVED_S = 10.0
STOP_WITHIN_S = 7.0

_STOPPING = {signal.SIGINT, signal.SIGTERM}
_WATCHED = {*_STOPPING, signal.SIGHUP, signal.SIGCHLD}
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Child:
    """A process to keep running."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        output: str | None = None,
        reloads: bool = False,
    ) -> None:
        """`output` is a file that gets its standard output and error; without it they are ours.

        `reloads`: it takes SIGHUP as "read your configuration again".
        """
        self.name = name
        self.argv = list(argv)
        self.env = {**os.environ, **(env or {})}
        self.pass_fds = tuple(pass_fds)
        self.output = output
        self.reloads = reloads
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.start_at = 0.0
        self.starts = 0
        self.deaths = 0
        self.quick_deaths = 0
        self._log = log.bind(child=name)

    def start(self) -> None:
        """Start the process. If that fails, log it and try again at `start_at`."""
        self.started = time.monotonic()
        try:
            self._start()
        except (OSError, subprocess.SubprocessError) as error:
            self._start_later()
            reason = getattr(error, "strerror", None) or type(error).__name__
            self._log.error("child cannot be started, trying again", reason=reason, deaths=self.deaths)

    def _start(self) -> None:
        """Start the process. It gets SIGTERM if we die, and Ctrl-C does not reach it directly."""
        parent = os.getpid()

        def in_child() -> None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(0)  # we died before the line above

        output = open(self.output, "ab") if self.output else None  # noqa: SIM115
        try:
            self.process = subprocess.Popen(
                self.argv,
                env=self.env,
                pass_fds=self.pass_fds,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                # Safe: the supervisor starts children only from a thread that holds no lock at fork.
                preexec_fn=in_child,  # noqa: PLW1509
            )
        finally:
            if output:
                output.close()
        self.starts += 1

    def died(self) -> int | None:
        """Return the process's exit code if it has ended, and schedule its restart; None if it runs."""
        code = self.process.poll() if self.process else None
        if code is None:
            return None
        self.process = None
        self._start_later()
        if code == EXIT_CONFIG and self.starts == 1:
            self._log.error("child cannot run", exit=code)
        else:
            self._log.warning("child died, starting it again", exit=code)
        return code

    def _start_later(self) -> None:
        self.deaths += 1
        lived = time.monotonic() - self.started
        self.quick_deaths = self.quick_deaths + 1 if lived < LONG_LIVED_S else 0
        # The first restart is quick; a child that cannot start is not started hundreds of times a minute.
        delay = min(RESTART_AFTER_S * 2 ** max(0, self.quick_deaths - 2), RESTART_AFTER_AT_MOST_S)
        self.start_at = time.monotonic() + delay

    def stop(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)


class Supervisor:
    """Keeps children running until told to stop. Children are stopped in stages, the last added first."""

    def __init__(self) -> None:
        self._stages: list[list[Child]] = []
        self._terminal = Terminal()
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)

    def start(self, *children: Child) -> None:
        """Start children of one stage."""
        self._stages.append(list(children))
        for child in children:
            child.start()

    def run(self, until: Callable[[], bool] = lambda: False) -> int:
        """Keep every child running until told to stop, or until a child cannot run. Returns the exit code.

        It also ends when the terminal that it was started from goes away. Any other SIGHUP is passed on:
        reload.
        """
        while not until():
            wait_s = 0.2 if any(child.process is None for child in self._children()) else 1.0
            got = signal.sigtimedwait(_WATCHED, wait_s)
            if self._terminal.is_gone() or (got is not None and got.si_signo in _STOPPING):
                break
            if got is not None and got.si_signo == signal.SIGHUP:
                for child in self._children():
                    if child.reloads:
                        child.stop(signal.SIGHUP)
            for child in self._children():
                if child.died() == EXIT_CONFIG and child.starts == 1:
                    # On a later start the file may just be being changed: the others go on.
                    return EXIT_CONFIG
                if child.process is None and time.monotonic() >= child.start_at:
                    child.start()
        return 0

    def stop(self) -> None:
        """Stop all children, stage by stage: SIGTERM first, SIGKILL when the time of the stage is over."""
        deadline = time.monotonic() + STOP_WITHIN_S
        for stage in reversed(self._stages):
            for child in stage:
                child.stop(signal.SIGTERM)
            # A stage that hangs must not use up the time of those after it: Redis comes last and is quick.
            self._wait(stage, max(deadline, time.monotonic() + 1.0))
            for child in stage:
                child.stop(signal.SIGKILL)
            self._wait(stage, time.monotonic() + 1.0)
        self._stages = []
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def _children(self) -> list[Child]:
        return [child for stage in self._stages for child in stage]

    def _wait(self, stage: Sequence[Child], deadline: float) -> None:
        for child in stage:
            if child.process:
                try:
                    child.process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    continue
