"""Reading in threads: adapters and filters run code that may take its time, or never come back.

The threads are shared by all sources. Each call reads for a short time and lets others have the thread, so a
source whose bodies are large waits for itself alone.
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
    """Threads that read entries, and since when each has been at the one it reads."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="reading")
        self._since: dict[int, float] = {}

    async def read(self, reader: Reader, entries: Sequence[Entry]) -> list[Admission | Quarantine]:
        """Read the first of `entries`, and those after it until `READ_AT_ONCE_S` have passed.

        What it costs to read an entry is known when it is read: neither bytes nor brackets foretell it.

        Raises: MemoryError, if there is none for the first.
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
        """Return how long the entry that takes the longest has been read; 0.0 if none is."""
        now = monotonic()
        return max((now - since for since in list(self._since.values())), default=0.0)

    def close(self) -> None:
        """Start no more reading. What is under way goes on."""
        self._pool.shutdown(wait=False, cancel_futures=True)
