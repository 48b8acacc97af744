"""`POST /webhooks/…`: read, verify, commit, answer. Nothing here looks into a body."""

from functools import partial
from time import perf_counter, time

import structlog

from ingress.commit import Committer
from ingress.limits import AddressList, announced_bytes, client_address
from ingress.replies import (
    BAD_REQUEST,
    CONTINUE,
    FAILED,
    NOT_ALLOWED,
    NOT_FOUND,
    NOTHING_TO_STORE,
    TOO_LARGE,
    UNAUTHORIZED,
    UNAVAILABLE,
    Reply,
    committed,
)
from ingress.request import Request
from ingress.source import Source
from shared.config import Config
from shared.errors import NoSuchSource, NotVerified, RepeatedCredentials
from shared.providers.base import InboundRequest, Verdict
from shared.store.inbox import Received

log = structlog.get_logger()


class Webhooks:
    """The endpoint of all sources. It answers each request once, and writes its one log line."""

    def __init__(self, committer: Committer, config: Config) -> None:
        self._committer = committer
        self._log = log.bind()
        self.use(config)

    def use(self, config: Config) -> None:
        """Take up a configuration: requests from now on are held against it, those under way are not."""
        self._sources = {settings.name: Source(settings) for settings in config.sources}
        self.max_body_bytes = config.ingress.max_body_bytes
        self._trusted = AddressList(config.ingress.trusted_proxies)

    def begin(self, request: Request) -> None:
        """Refuse what can be refused without a body; else let it come."""
        source = request.source = self._sources.get(request.name)
        if request.method != b"POST":
            self._end(request, NOT_ALLOWED, "method-not-allowed")
        elif source is None:
            self._end(request, NOT_FOUND, "unknown-source")
        elif source.allowed and not self._allows(source, request):
            self._end(request, UNAUTHORIZED, "unauthorized")
        elif announced_bytes(request.headers) > request.max_body_bytes:
            self._end(request, TOO_LARGE, "too-large")
        elif request.expects_continue:
            request.connection.transport.write(CONTINUE)

    def complete(self, request: Request) -> None:
        """Verify a request, and have it committed."""
        size = request.size
        if size > request.max_body_bytes:
            self._end(request, TOO_LARGE, "too-large")
            return
        source = request.source
        assert source is not None  # noqa: S101  (it would not have begun)
        headers = request.headers
        body = bytes(request.body)
        inbound = InboundRequest(headers, request.token, body, received_at=time())
        try:
            verdict = source.adapter.verify(inbound)
        except RepeatedCredentials:
            self._end(request, BAD_REQUEST, "repeated-credentials", size)
        except NotVerified:
            self._end(request, UNAUTHORIZED, "unauthorized", size)
        except NoSuchSource:
            self._end(request, NOT_FOUND, "wrong-token", size)
        except Exception:
            self._log.exception("adapter failed", source=source.name)
            self._end(request, FAILED, "failed", size)
        else:
            if verdict is Verdict.ANSWER_ONLY:
                self._end(request, NOTHING_TO_STORE, "nothing-to-store", size)
            else:
                received = Received(source.name, body, source.kept(headers))
                self._committer.commit(received, partial(self._committed, request))

    def lost(self, request: Request) -> None:
        """Note that a sender left before its request was complete."""
        self._end(request, None, "disconnected")

    def _committed(self, request: Request, result: str | Exception) -> None:
        if isinstance(result, str):
            self._end(request, committed(result), "committed", request.size, result)
        else:
            self._end(request, UNAVAILABLE, f"unavailable: {result}", request.size)

    def _end(
        self, request: Request, reply: Reply | None, outcome: str, size: int = 0, event_id: str | None = None
    ) -> None:
        request.end(reply)
        source = request.source
        self._log.info(
            "request",
            # Only a configured source's name is logged: what else stands in the path may be a token.
            source=source.name if source else None,
            event_id=event_id,
            outcome=outcome,
            status=reply.status if reply else None,
            bytes=size,
            duration_ms=round((perf_counter() - request.started) * 1000, 2),
        )

    def _allows(self, source: Source, request: Request) -> bool:
        address = client_address(request.peer, request.headers, self._trusted)
        return address is not None and address in source.allowed
