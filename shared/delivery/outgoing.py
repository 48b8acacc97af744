"""The signed request of one delivery, and the endpoint that it goes to."""

from collections.abc import Callable

from shared import __version__
from shared.delivery.formats import compose
from shared.delivery.headers import own_headers
from shared.delivery.signing import sign, signing_key
from shared.event.record import EventRecord
from shared.http import Endpoint, header_lines
from shared.http.proxy import Proxy
from shared.settings import Config, Target

USER_AGENT = f"Headrace/{__version__}".encode()


class Outgoing:
    """One target's requests.

    They go to `endpoint`. `private` names the headers whose values must not be shown.
    """

    def __init__(
        self, config: Config, target: Target, redacted: Callable[[EventRecord], EventRecord]
    ) -> None:
        """`redacted` returns an event as this target may get it."""
        self._redacted = redacted
        self.endpoint = endpoint_of(config, target)
        self._format = target.format
        self._keys = [signing_key(secret) for secret in target.secret]
        own = own_headers(target.headers, target.auth)
        self._lines = header_lines([(b"user-agent", USER_AGENT), *own])
        self.private = frozenset(name for name, _ in own)

    def request(self, event: EventRecord, at_ms: int) -> bytes:
        """Return the whole request: the bytes that are signed are the bytes that are sent."""
        # Redacted whatever the form is, `raw` too: a target that is not to have a value is not to have it in
        # another form. To refuse `raw` beside redaction would leave its users no choice but the value.
        headers, body = compose(self._redacted(event), self._format)
        timestamp = at_ms // 1000
        # Our own ids and signatures hold no line break.
        lines = b"webhook-id: %b\r\nwebhook-timestamp: %d\r\nwebhook-signature: %b\r\n%b" % (
            event.id.encode(),
            timestamp,
            sign(self._keys, event.id, timestamp, body),
            self._lines,
        )
        return self.endpoint.request(headers, body, lines)


def proxy_of(config: Config) -> Proxy | None:
    """Return the configured proxy, or None. Raises: ValueError."""
    settings = config.egress
    return Proxy.parse(settings.proxy, resolves=settings.proxy_resolves) if settings.proxy else None


def endpoint_of(config: Config, target: Target) -> Endpoint:
    """Return a target's endpoint, with the proxy if there is one. Raises: ValueError."""
    return Endpoint.parse(
        target.url,
        allow_private=target.allow_private,
        ca_file=target.ca_file,
        client_cert=target.client_cert,
        proxy=proxy_of(config),
    )
