"""`POST /webhooks/…`: read, verify, commit, answer. Nothing here looks into a body.

A plain ASGI endpoint: Starlette's Request and Response objects cost more than all that happens here.
"""

from functools import lru_cache
from time import perf_counter, time

import structlog
from starlette.types import Receive, Scope, Send

from ingress.commit import Committer
from ingress.limits import AddressList, BodyTooLarge, Disconnected, client_address, read_body
from shared.config import Config
from shared.errors import NoSuchSource, NotVerified, RepeatedCredentials, StoreUnavailable
from shared.providers import make_adapter
from shared.providers.base import AnyAdapter, InboundRequest, SourceSettings, Verdict
from shared.store.inbox import Received

log = structlog.get_logger()

RETRY_AFTER_S = b"5"

Reply = tuple[int, bytes, tuple[tuple[bytes, bytes], ...]]

# What a caller is told gives nothing away: a wrong token and a source that is not there look the same.
NOT_FOUND: Reply = (404, b'{"error":"not found"}', ())
NOT_ALLOWED: Reply = (405, b'{"error":"method not allowed"}', ((b"allow", b"POST"),))
BAD_REQUEST: Reply = (400, b'{"error":"bad request"}', ())
UNAUTHORIZED: Reply = (401, b'{"error":"unauthorized"}', ())
# The connection stays open: what is still coming is read and dropped, for as long as a body may take.
# Closed at once, it would be reset, and the sender would never see the answer.
TOO_LARGE: Reply = (413, b'{"error":"body too large"}', ())
UNAVAILABLE: Reply = (
    503,
    b'{"error":"temporarily unavailable, try again"}',
    ((b"retry-after", RETRY_AFTER_S),),
)
NOTHING_TO_STORE: Reply = (200, b"{}", ())


@lru_cache(maxsize=256)
def _headers(length: int, extra: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[bytes, bytes], ...]:
    return (b"content-type", b"application/json"), (b"content-length", b"%d" % length), *extra


async def respond(send: Send, reply: Reply) -> None:
    """Send a reply of JSON bytes."""
    status, body, extra = reply
    await send({"type": "http.response.start", "status": status, "headers": _headers(len(body), extra)})
    await send({"type": "http.response.body", "body": body})


class Source:
    """One configured source, ready to verify."""

    def __init__(self, settings: SourceSettings) -> None:
        self.name = settings.name
        self.adapter: AnyAdapter = make_adapter(settings)
        self.allowed = AddressList(settings.allow_ips)
        self._kept = self.adapter.kept_headers

    def kept(self, headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
        """Return what admission will need of the headers: the content type where it is not plain JSON."""
        return {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in headers
            if name in self._kept or (name == b"content-type" and value != b"application/json")
        }


class Webhooks:
    """The endpoint of all sources."""

    def __init__(self, committer: Committer, config: Config) -> None:
        self._committer = committer
        self.use(config)

    def use(self, config: Config) -> None:
        """Take up a configuration: requests from now on are held against it, those under way are not."""
        self._sources = {settings.name: Source(settings) for settings in config.sources}
        self._max_body_bytes = config.ingress.max_body_bytes
        self._trusted = AddressList(config.ingress.trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and write its one log line."""
        started = perf_counter()
        # Only a configured source's name is logged: what else stands in the path may be a token.
        source = self._sources.get(scope["path_params"]["source"])
        event_id: str | None = None
        size = 0
        try:
            if scope["method"] != "POST":
                reply, outcome = NOT_ALLOWED, "method-not-allowed"
            elif source is None:
                reply, outcome = NOT_FOUND, "unknown-source"
            else:
                self._check_address(source, scope)
                body = await read_body(scope, receive, self._max_body_bytes)
                size = len(body)
                token = scope["path_params"].get("token")
                request = InboundRequest(scope["headers"], token, body, received_at=time())
                if source.adapter.verify(request) is Verdict.ANSWER_ONLY:
                    reply, outcome = NOTHING_TO_STORE, "nothing-to-store"
                else:
                    received = Received(source.name, body, source.kept(scope["headers"]))
                    event_id = await self._committer.commit(received)
                    reply, outcome = (200, b'{"id":"%s"}' % event_id.encode(), ()), "committed"
        except RepeatedCredentials:
            reply, outcome = BAD_REQUEST, "repeated-credentials"
        except NotVerified:
            reply, outcome = UNAUTHORIZED, "unauthorized"
        except NoSuchSource:
            reply, outcome = NOT_FOUND, "wrong-token"
        except BodyTooLarge:
            reply, outcome = TOO_LARGE, "too-large"
        except StoreUnavailable as error:
            reply, outcome = UNAVAILABLE, f"unavailable: {error}"
        except Disconnected:
            reply, outcome = None, "disconnected"
        if reply is not None:
            await respond(send, reply)
        log.info(
            "request",
            source=source.name if source else None,
            event_id=event_id,
            outcome=outcome,
            status=reply[0] if reply else None,
            bytes=size,
            duration_ms=round((perf_counter() - started) * 1000, 2),
        )

    def _check_address(self, source: Source, scope: Scope) -> None:
        if source.allowed:
            address = client_address(scope, self._trusted)
            if address is None or address not in source.allowed:
                raise NotVerified("address not allowed")
