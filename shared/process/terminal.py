"""The terminal that a command was started from, and whether it is still there."""

import os
import select
import signal
import sys


class Terminal:
    """The terminal of this process, if it has one that it must not outlive."""

    def __init__(self) -> None:
        self._poll: select.poll | None = None
        # Under `nohup` the process outlives its terminal.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and (fd := _find()) is not None:
            self._poll = select.poll()
            self._poll.register(fd, 0)  # poll reports a hang-up without being asked for it

    def is_gone(self) -> bool:
        """Tell whether there was a terminal and it has hung up."""
        return self._poll is not None and bool(self._poll.poll(0))


def _find() -> int | None:
    """Return a file descriptor of the terminal, which stays open as long as the process runs."""
    try:
        return os.open(os.ctermid(), os.O_RDWR | os.O_NOCTTY)
    except OSError:  # the process has no terminal of its own, but standard input may be one
        return sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
