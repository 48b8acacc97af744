"""Writes log lines without waiting: a bounded buffer, and a thread that writes it to a file descriptor.

A log that cannot be written (the disk is full, its reader is gone or stalls) must not end or delay the
process. So logging only puts a line into memory. Lines that do not fit there, or that could not be written,
are dropped and counted, and the count is written once lines can be written again.
"""

import os
import select
import signal
import stat
import threading
from collections import deque
from collections.abc import Callable

MOST_BYTES = 1024 * 1024
# After a write, the next one takes what comes in this time, or sooner a quarter of what may wait. To wake a
# thread costs more than to make a line: at 50 requests a second, with a tenth of this, it was a fifth of what
# ingress takes.
GATHER_S = 0.1
# Writes of at most this size are not mixed with those of other processes that share the pipe. A file takes
# any in one piece, and few large ones cost less: at each one, threads wait for Python's lock.
_AT_ONCE_BYTES, _AT_ONCE_INTO_A_FILE_BYTES = select.PIPE_BUF, 256 * 1024


class LogWriter:
    """Writes lines to a file descriptor, in the order in which they were put. It does not survive a fork."""

    def __init__(self, fd: int, dropped: Callable[[int], bytes], *, most_bytes: int = MOST_BYTES) -> None:
        """`dropped` returns the line that says how many lines were dropped.

        At most `most_bytes` wait in memory.
        """
        self.fd = fd
        self._dropped_line = dropped
        self._most_bytes = most_bytes
        self._many_bytes = most_bytes // 4
        # Reentrant: a signal handler or a destructor may log while its thread puts a line.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._at_once_bytes = _AT_ONCE_INTO_A_FILE_BYTES if _is_file(fd) else _AT_ONCE_BYTES
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._writing = False
        self._hurry = False
        self._broken_line = False
        thread = threading.Thread(target=self._run, name="log", daemon=True)
        # This thread takes no signals: another may block a signal and wait for it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def put(self, line: bytes) -> None:
        """Queue a line, which has its newline, for writing. Returns at once and raises nothing."""
        with self._lock:
            if self._bytes + len(line) > self._most_bytes:
                self._dropped += 1
                return
            self._lines.append(line)
            self._bytes += len(line)
            if not self._writing or self._bytes > self._many_bytes:
                self._changed.notify_all()

    def flush(self, within_s: float) -> bool:
        """Wait until each line is written or dropped, at most `within_s`.

        Returns whether that was so in time.
        """
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._lines and not self._writing, within_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                if not self._lines:
                    self._hurry = False
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._lines)
                self._writing = True
            self._write_all()
            with self._changed:
                self._changed.wait_for(lambda: self._hurry or self._bytes > self._many_bytes, GATHER_S)

    def _write_all(self) -> None:
        while True:
            with self._changed:
                lines = self._take()
                dropped = self._dropped
            if not lines:
                return
            lost = self._write(lines)
            if not lost and dropped and not self._write([self._dropped_line(dropped)]):
                lost = -dropped
            with self._changed:
                self._dropped += lost

    def _take(self) -> list[bytes]:
        """Return the next lines, as many as go into one write."""
        lines: list[bytes] = []
        size = 0
        while self._lines and (not lines or size + len(self._lines[0]) <= self._at_once_bytes):
            line = self._lines.popleft()
            size += len(line)
            lines.append(line)
        self._bytes -= size
        return lines

    def _write(self, lines: list[bytes]) -> int:
        """Write lines; return how many could not be written whole."""
        content = b"".join([b"\n", *lines] if self._broken_line else lines)
        written = 0
        try:
            while written < len(content):
                try:
                    written += os.write(self.fd, content[written:])
                except BlockingIOError:  # another process that shares the file may have done that
                    select.select([], [self.fd], [])
        except (OSError, ValueError):
            left, lost = len(content) - written, 0
            while left > 0:
                lost += 1
                left -= len(lines[-lost]) if lost <= len(lines) else left
            self._broken_line = content[:written][-1:] not in (b"", b"\n") or (
                self._broken_line and not written
            )
            return min(lost, len(lines))
        self._broken_line = False
        return 0


def _is_file(fd: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:  # there is none
        return False
