"""What a target is sent, and where: the request of one delivery, signed."""

from shared import __version__
from shared.config import Config, Target
from shared.events import EventRecord, compose
from shared.headers import own_headers
from shared.signing import sign, signing_key

USER_AGENT = f"Headrace/{__version__}".encode()


class Outgoing:
    """One target's requests. `endpoint` is where they go; `private` names headers not to be shown."""

    def __init__(self, config: Config, target: Target) -> None:
        self.endpoint = config.endpoint_of(target)
        self._format = target.format
        self._keys = [signing_key(secret) for secret in target.secret]
        self._own_headers = own_headers(target.headers, target.auth)
        self.private = frozenset(name for name, _ in self._own_headers)

    def request(self, event: EventRecord, at_ms: int) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Return the headers and the body to send: the bytes that are signed are the bytes that are sent."""
        headers, body = compose(event, self._format)
        timestamp = at_ms // 1000
        headers += [
            (b"user-agent", USER_AGENT),
            (b"webhook-id", event.id.encode()),
            (b"webhook-timestamp", b"%d" % timestamp),
            (b"webhook-signature", sign(self._keys, event.id, timestamp, body)),
            *self._own_headers,
        ]
        return headers, body
