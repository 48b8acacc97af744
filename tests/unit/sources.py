"""Sources to test adapters with, built as the configuration builds them, and the providers' samples."""

import base64
from typing import Any

import msgspec

from shared.event.canonical import Event
from shared.providers import ADAPTERS, make_adapter, samples
from shared.providers.base import Adapter, InboundRequest, RawEvent
from shared.values import decode_value

SAMPLES = {
    f"{provider}/{name}": body for provider in ADAPTERS for name, body in sorted(samples(provider).items())
}
"""`provider/name` → the body of a sample."""

NOW = 1614265330.0
"""When every request to verify comes in: the moment of Standard Webhooks' published vector."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "truust": {"path_tokens": ["tok-1", "tok-2"]},
    "trustap": {"username": "headrace", "passwords": ["old-pässword", "new"]},
    "trustshare": {"secrets": ["s3cret-1", "s3cret-2"]},
    "trustist": {"path_tokens": ["tok-1", "tok-2"], "currency": "gbp"},
    "standard-webhooks": {"secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]},
}


def source(provider: str, **keys: Any) -> Adapter[Any]:
    """Return the adapter of a source with these keys over the defaults."""
    table = {"name": f"{provider}-1", "provider": provider} | DEFAULTS[provider] | keys
    settings = msgspec.convert(table, type=ADAPTERS[provider].Settings, dec_hook=decode_value)
    return make_adapter(settings)


def read(adapter: Adapter[Any], body: Any) -> Event:
    """Return the event of a body: bytes as they are, anything else as JSON."""
    return adapter.normalise(RawEvent(body if isinstance(body, bytes) else msgspec.json.encode(body)))


def request(*headers: tuple[bytes, bytes], token: str | None = None, body: bytes = b"{}") -> InboundRequest:
    """Return a request to verify."""
    return InboundRequest(headers=list(headers), path_token=token, body=body, received_at=NOW)


def basic(pair: str | bytes) -> tuple[bytes, bytes]:
    """Return a Basic `authorization` header."""
    raw = pair.encode() if isinstance(pair, str) else pair
    return (b"authorization", b"Basic " + base64.b64encode(raw))


def sample(name: str) -> dict[str, Any]:
    """Return a sample, decoded."""
    decoded: dict[str, Any] = msgspec.json.decode(SAMPLES[name])
    return decoded
