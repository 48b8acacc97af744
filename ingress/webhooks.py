"""`POST /webhooks/…`: check the head, read the body, verify, commit, answer. The body is not parsed."""

from time import perf_counter, time

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ingress.clients import AddressList, Headers, client_address
from ingress.commit import Committer
from ingress.source import Source
from shared.errors import HeadraceError, NoSuchSource, NotVerified, RepeatedCredentials, StoreUnavailable
from shared.providers.base import InboundRequest, RequestHead, Verdict
from shared.settings import Config
from shared.store.inbox import Received

log = structlog.get_logger()


def answer(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    return Response(body, status, headers, "application/json")


# They give nothing away: a wrong token gets the answer of an unknown source.
BAD_REQUEST = answer(400, b'{"error":"bad request"}')
UNAUTHORIZED = answer(401, b'{"error":"unauthorized"}')
NOT_FOUND = answer(404, b'{"error":"not found"}')
NOT_ALLOWED = answer(405, b'{"error":"method not allowed"}', {"allow": "POST"})
TOO_LARGE = answer(413, b'{"error":"body too large"}')
FAILED = answer(500, b'{"error":"internal error"}')
UNAVAILABLE = answer(503, b'{"error":"temporarily unavailable, try again"}', {"retry-after": "5"})
NOTHING_TO_STORE = answer(200, b"{}")


class TooLarge(HeadraceError):
    """A body is longer than it may be: 413."""


class Incomplete(HeadraceError):
    """The body is shorter or longer than was announced: 400, and never a receipt."""


REFUSALS: dict[type[Exception], tuple[Response, str]] = {
    NoSuchSource: (NOT_FOUND, "wrong-token"),
    NotVerified: (UNAUTHORIZED, "unauthorized"),
    RepeatedCredentials: (BAD_REQUEST, "repeated-credentials"),
    TooLarge: (TOO_LARGE, "too-large"),
    Incomplete: (BAD_REQUEST, "incomplete"),
    ClientDisconnect: (BAD_REQUEST, "disconnected"),  # the client is gone
}


class Webhooks:
    """The endpoint of all sources: plain ASGI, below Starlette's routes.

    Starlette's `Request`, and what it puts around an endpoint that takes one, were a fifth of the cost of
    ingress.
    """

    def __init__(self, committer: Committer, config: Config) -> None:
        self._committer = committer
        self._log = log.bind()  # as it is configured by now: the module's looks for that at each line
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Apply a configuration to requests from now on; those under way keep theirs."""
        self._sources = {settings.name: Source(settings) for settings in config.sources}
        self._max_body_bytes = config.ingress.max_body_bytes
        self._trusted = AddressList(config.ingress.trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and write its one log line."""
        started = perf_counter()
        source = self._sources.get(scope["path_params"]["source"])
        size, event_id, say = 0, None, self._log.info
        try:
            if source is None:
                raise NoSuchSource("no source has this path")
            body = await self._verified_body(source, scope, receive)
            if body is None:
                reply, outcome = NOTHING_TO_STORE, "nothing-to-store"
            else:
                size = len(body)
                event_id = await self._committer.commit(
                    Received(source.name, body, source.kept(scope["headers"]))
                )
                reply, outcome = answer(200, b'{"id":"%b"}' % event_id.encode()), "committed"
        except StoreUnavailable as error:
            reply, outcome, say = UNAVAILABLE, f"unavailable: {error}", self._log.warning
        except tuple(REFUSALS) as error:
            reply, outcome = REFUSALS[type(error)]
        except Exception:
            log.exception("adapter failed", source=source and source.name)
            reply, outcome, say = FAILED, "failed", self._log.error
        say(
            "request",
            # Only the name of a configured source is logged: any other part of the path may be a token.
            source=source and source.name,
            event_id=event_id,
            outcome=outcome if source else "unknown-source",
            status=reply.status_code,
            bytes=size,
            duration_ms=round((perf_counter() - started) * 1000, 2),
        )
        await reply(scope, receive, send)

    async def _verified_body(self, source: Source, scope: Scope, receive: Receive) -> bytes | None:
        """Return the body of an authentic request; None if it is not to be kept.

        A request that its head alone shows to be wrong is refused before its body comes. The path is checked
        first, so that no answer tells an unknown source from a wrong token.

        Raises: NoSuchSource, NotVerified, TooLarge, Incomplete, ClientDisconnect.
        """
        token, now, headers = scope["path_params"].get("token"), time(), scope["headers"]
        verdict = source.adapter.verify_head(RequestHead(headers=headers, path_token=token, received_at=now))
        if source.allowed:
            peer = scope.get("client")
            address = client_address(peer[0] if peer else None, headers, self._trusted)
            if address is None or address not in source.allowed:
                raise NotVerified("the address is not allowed")
        if verdict.proven and (extension := scope.get("extensions", {}).get("headrace.proven")):
            extension["tell"]()
        body = await self._read_body(headers, receive, verdict.max_body_bytes)
        if verdict.proven:
            return body
        whole = InboundRequest(headers=headers, path_token=token, received_at=now, body=body)
        return None if source.adapter.verify(whole) is Verdict.ANSWER_ONLY else body

    async def _read_body(self, headers: Headers, receive: Receive, most_authentic: int | None) -> bytes:
        """Read a body within its limits; one of more than `most_authentic` bytes cannot be authentic.

        Raises: NotVerified, TooLarge, Incomplete, ClientDisconnect.
        """

        def insist(size: int) -> None:
            if most_authentic is not None and size > most_authentic:
                raise NotVerified("too long to be authentic without credentials in its head")
            if size > self._max_body_bytes:
                raise TooLarge("longer than ingress.max_body_bytes")

        announced = announced_bytes(headers)
        insist(announced or 0)
        body, more = bytearray(), True  # it grows in place, as a body may come byte by byte
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            more = message.get("more_body", False)
            insist(len(body))
        if announced is not None and len(body) != announced:
            raise Incomplete("another length was announced")
        if not body and {name for name, _ in headers} >= {b"transfer-encoding", b"upgrade"}:
            # uvicorn drops the body of a request that asks for an upgrade (Kludex/uvicorn#2722).
            raise Incomplete("an upgrade was asked for, and the announced body did not come")
        return bytes(body)


def announced_bytes(headers: Headers) -> int | None:
    """Return the announced length of the body; None if there is none."""
    for name, value in headers:
        if name == b"content-length":
            # The parser has checked that it is a number, and that no other header contradicts it.
            return int(value)
    return None
