"""Reads entries in threads: adapters and filters may take long, or never return.

The threads are shared by all sources. Each call reads for a short time and then gives the thread up, so a
source with large bodies delays only itself.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import get_ident
from time import monotonic

from shared.routing.reading import Reader
from shared.store.admission import Admission, Entry, Quarantine

THREADS = 4
READ_AT_ONCE_S = 0.05


class ReadingThreads:
    """Threads that read entries, and when each of them began with its entry."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="reading")
        self._since: dict[int, float] = {}

    async def read(self, reader: Reader, entries: Sequence[Entry]) -> list[Admission | Quarantine]:
        """Read the first of `entries`, and those after it until `READ_AT_ONCE_S` have passed.

        The time that an entry takes is not known before: neither its bytes nor its brackets predict it.

        Raises: MemoryError if there is not enough memory for the first.
        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, reader, entries)

    def _read(self, reader: Reader, entries: Sequence[Entry]) -> list[Admission | Quarantine]:
        thread, until = get_ident(), monotonic() + READ_AT_ONCE_S
        read: list[Admission | Quarantine] = []
        try:
            for entry in entries:
                self._since[thread] = now = monotonic()
                if read and now >= until:
                    break
                read.append(reader.read(entry))
        except MemoryError:
            if not read:
                raise
        finally:
            self._since.pop(thread, None)
        return read

    def longest_s(self) -> float:
        """Return for how long the slowest entry has been read; 0.0 if none is being read."""
        now = monotonic()
        return max((now - since for since in list(self._since.values())), default=0.0)

    def close(self) -> None:
        """Read no more. Calls under way go on."""
        self._pool.shutdown(wait=False, cancel_futures=True)
