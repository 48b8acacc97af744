"""Resolves host names. Look-ups of one name at the same time are one, and a look-up that hangs holds no
thread that others need.
"""

import asyncio
import errno
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import TypeAlias

from shared.errors import EgressError
from shared.http.addresses import Address

Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Name and port → textual addresses, in the order to try them. Raises OSError when there are none."""

# The most look-ups at once. A name takes at most one thread, so look-ups of other names have to wait
# only if this many names hang.
_MAX_THREADS = 16


class Lookups:
    """Resolves names, each at most once at a time.

    A look-up goes on if those who wait for it give up, and later callers join it: a name server that hangs
    costs one thread for each name, not one for each delivery.
    """

    def __init__(self, resolver: Resolver | None = None) -> None:
        """`resolver` replaces the system's `getaddrinfo`."""
        self._resolver = resolver or _SystemResolver()
        self._under_way: dict[tuple[str, int], asyncio.Task[tuple[Address, ...]]] = {}

    async def find(self, name: str, port: int) -> tuple[Address, ...]:
        """Return every address of `name`, at least one.

        Raises:
            EgressError: `dns`.
        """
        key = (name, port)
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(self._resolve(name, port))
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        # Awaiting the task itself would cancel it when we are cancelled.
        await asyncio.wait((task,))
        if task.cancelled():
            raise EgressError("dns", f"the look-up of {name} was given up")
        return task.result()

    def close(self) -> None:
        """Give up the look-ups under way."""
        for task in self._under_way.values():
            task.cancel()

    async def _resolve(self, name: str, port: int) -> tuple[Address, ...]:
        try:
            found = await self._resolver(name, port)
            addresses = tuple(dict.fromkeys(ip_address(text) for text in found))
        except OSError as error:
            raise EgressError("dns", f"{name}: {error.strerror or 'the look-up failed'}") from None
        except ValueError:  # the UnicodeError of an impossible name is one
            raise EgressError("dns", f"{name}: the look-up gave no usable address") from None
        if not addresses:
            raise EgressError("dns", f"{name} has no address")
        return addresses

    def _ended(self, key: tuple[str, int], task: asyncio.Task[tuple[Address, ...]]) -> None:
        self._under_way.pop(key, None)
        if not task.cancelled():
            task.exception()  # retrieved here, as all those who waited may have given up


class _SystemResolver:
    """`getaddrinfo` in threads of its own.

    The loop's default executor also serves everything else that blocks, and a few look-ups that hang would
    fill it. The threads are daemons: those of asyncio and concurrent.futures are joined when the process
    exits, so a name server that hangs would delay that past its grace time.
    """

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_MAX_THREADS)

    async def __call__(self, name: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        async with self._slots:
            found: asyncio.Future[list[str]] = loop.create_future()
            thread = threading.Thread(
                target=_getaddrinfo, args=(loop, found, name, port), name="headrace-dns", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:
                raise OSError(errno.EAGAIN, str(error)) from None
            return await found


def _getaddrinfo(
    loop: asyncio.AbstractEventLoop, found: asyncio.Future[list[str]], name: str, port: int
) -> None:
    def settle() -> None:
        if found.done():
            return
        if isinstance(result, Exception):
            found.set_exception(result)
        else:
            found.set_result(result)

    result: list[str] | Exception
    try:
        result = [str(info[4][0]) for info in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)]
    except Exception as error:
        result = error
    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        return  # the loop was closed meanwhile
