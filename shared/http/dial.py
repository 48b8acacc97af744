"""Opens a connection to an endpoint: look-up, a check of every address, a race of attempts, TLS."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from itertools import chain, zip_longest
from typing import Any

from shared.errors import EgressError
from shared.http.addresses import Address, refusal
from shared.http.answer import Caps
from shared.http.connection import Connection
from shared.http.endpoint import Endpoint
from shared.http.lookup import Lookups
from shared.http.proxy import Proxy, connect_through
from shared.http.tls import Contexts, tls_reason
from shared.values import ALL_NETWORKS

_STAGGER_S = 0.25  # RFC 8305, section 5: how long an attempt runs before the next joins it
_MAX_ADDRESSES = 8  # so that no zone can make us try hundreds of addresses


class Dialler:
    """Opens checked connections."""

    def __init__(self, lookups: Lookups, caps: Caps) -> None:
        """Resolve by `lookups`; the connections read answers within `caps`."""
        self._lookups = lookups
        self._caps = caps
        self._contexts = Contexts()

    async def open(self, endpoint: Endpoint, deadline: float) -> Connection:
        """Return a new connection; `deadline` is in the loop's time.

        Raises:
            EgressError: `address-refused`, `dns`, `connect`, `proxy`, `tls`, `timeout`.
        """
        loop = asyncio.get_running_loop()
        phase = f"while {endpoint.host} was looked up"
        try:
            async with asyncio.timeout_at(deadline):
                addresses = await self._checked_addresses(endpoint)
                if endpoint.proxy is None:
                    phase = "while connecting"
                    sock = await _race([partial(_connect, each, endpoint.port) for each in addresses])
                else:
                    phase = "while connecting through the proxy"
                    hosts = [str(each) for each in addresses] or [endpoint.host]
                    sock = await _race(
                        [partial(self._tunnel, endpoint.proxy, each, endpoint.port) for each in hosts]
                    )
                phase = "during the TLS handshake"
                return await self._attach(loop, sock, endpoint, deadline)
        except TimeoutError:
            # The kernel's TimeoutError is an OSError, which `_connect` has translated already.
            raise EgressError("timeout", f"the deadline passed {phase}") from None

    async def _checked_addresses(self, endpoint: Endpoint) -> Sequence[Address]:
        """Return the addresses that may be dialled, in the order to try them. One forbidden address refuses
        them all.

        What is checked here is what is dialled, or what a `CONNECT` names: the name is not resolved again, so
        a zone that answers differently the next time gains nothing. The list is empty for a name that the
        proxy resolves.
        """
        known = endpoint.address
        by_proxy = endpoint.proxy is not None and endpoint.proxy.resolves
        if known is None and by_proxy:
            known = endpoint.known_address
        if known is not None:
            addresses: tuple[Address, ...] = (known,)
        elif by_proxy:
            return ()
        else:
            addresses = await self._lookups.find(endpoint.lookup_name, endpoint.port)
        for address in addresses:
            why = refusal(address, endpoint.allow_private)
            if why is not None:
                where = "" if endpoint.address is not None else f"{endpoint.host} resolves to "
                raise EgressError("address-refused", where + why)
        return _interleaved(addresses)[:_MAX_ADDRESSES]

    async def _tunnel(self, proxy: Proxy, host: str, port: int) -> socket.socket:
        """Return a socket that the proxy has connected to `host`."""
        try:
            if proxy.address is not None:
                addresses: Sequence[Address] = (proxy.address,)
            else:
                addresses = _interleaved(await self._lookups.find(proxy.lookup_name, proxy.port))
            for address in addresses:
                # The configuration names the proxy, so it may be private. A link-local one is a mistake.
                why = refusal(address, ALL_NETWORKS)
                if why is not None:
                    raise EgressError("address-refused", why)
            sock = await _race([partial(_connect, each, proxy.port) for each in addresses[:_MAX_ADDRESSES]])
        except EgressError as error:
            raise EgressError("proxy", f"the proxy cannot be reached: {error}") from None
        try:
            await connect_through(proxy, sock, host, port)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _attach(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, endpoint: Endpoint, deadline: float
    ) -> Connection:
        connection = Connection(loop, self._caps)
        secure = endpoint.scheme == "https"
        try:
            await loop.create_connection(
                lambda: connection,
                sock=sock,
                ssl=self._context(endpoint) if secure else None,
                server_hostname=endpoint.host if secure else None,
                # Past the deadline, so that it is always the deadline that ends a handshake.
                ssl_handshake_timeout=max(deadline - loop.time(), 0) + 60 if secure else None,
            )
        except BaseException as error:
            # The loop closes the socket once it has taken it over; it may have failed before. (A uvloop
            # before 0.23 left `sock` with the number of a closed file, which this would close again.)
            connection.abort()
            sock.close()
            if isinstance(error, ssl.SSLError):
                raise EgressError("tls", tls_reason(error)) from None
            if isinstance(error, OSError):
                how = f"the connection broke at its start: {_os_reason(error)}"
                raise EgressError("tls" if secure else "connect", how) from None
            raise
        return connection

    def _context(self, endpoint: Endpoint) -> ssl.SSLContext:
        try:
            return self._contexts.get(endpoint.ca_file, endpoint.client_cert)
        except ValueError as error:  # it was checked at the start, but may have changed since then
            raise EgressError("tls", str(error)) from None


async def _race(connects: Sequence[Callable[[], Coroutine[Any, Any, socket.socket]]]) -> socket.socket:
    """Return the first socket that connects, of attempts started one after the other (RFC 8305)."""
    if len(connects) == 1:
        return await connects[0]()
    waiting = list(connects)
    attempts: set[asyncio.Task[socket.socket]] = set()
    error = EgressError("connect", "no address")
    try:
        while waiting or attempts:
            if waiting:
                attempts.add(asyncio.create_task(waiting.pop(0)()))
            done, _ = await asyncio.wait(
                attempts, timeout=_STAGGER_S if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in done:
                attempts.discard(attempt)
                failure = attempt.exception()
                if failure is None:
                    attempts.update(done)  # another may have connected at the same moment
                    attempts.discard(attempt)
                    return attempt.result()
                if not isinstance(failure, EgressError):
                    raise failure
                error = failure
        raise error
    finally:
        for attempt in attempts:
            attempt.add_done_callback(_close_loser)
            attempt.cancel()


def _interleaved(addresses: Sequence[Address]) -> list[Address]:
    """Alternate the families, beginning with the resolver's first choice (RFC 8305, section 4)."""
    first = [each for each in addresses if each.version == addresses[0].version]
    second = [each for each in addresses if each.version != addresses[0].version]
    return [each for each in chain.from_iterable(zip_longest(first, second)) if each is not None]


def _close_loser(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def _connect(address: Address, port: int) -> socket.socket:
    """Return a TCP socket connected to exactly this address.

    Not `loop.sock_connect`: uvloop's sends even a numeric host through its resolver threads.
    """
    loop = asyncio.get_running_loop()
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise EgressError("connect", f"{address} port {port}: {_os_reason(error)}") from None
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex((str(address), port))
        if code == errno.EINPROGRESS:
            connected = loop.create_future()
            loop.add_writer(sock, _settle, connected)
            try:
                await connected
            finally:
                loop.remove_writer(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise EgressError("connect", f"{address} port {port}: {os.strerror(code)}")
    except BaseException:
        sock.close()
        raise
    return sock


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _os_reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
