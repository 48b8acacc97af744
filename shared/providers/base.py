"""What a provider's adapter is: bytes in, values out. No clock, no I/O, no logger.

A provider is one folder of this package. It defines its `Settings` (the keys its sources take in the
configuration) and its adapter class, and names that class `ADAPTER`; nothing else knows the provider.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from shared.event.canonical import Event
from shared.event.jsonbody import MAX_DEPTH
from shared.event.lifecycle import ANY, Lifecycle
from shared.settings import SourceSettings


class RequestHead(msgspec.Struct, frozen=True, kw_only=True):
    """What of a request is here before its body. `headers` as ASGI gives them: lower-case names, raw bytes,
    repeats kept.

    An adapter has no clock: `received_at` is ingress's, in seconds since 1970.
    """

    headers: list[tuple[bytes, bytes]]
    path_token: str | None
    received_at: float


class InboundRequest(RequestHead, frozen=True, kw_only=True):
    """A request to verify, whole."""

    body: bytes


class HeadVerdict(msgspec.Struct, frozen=True):
    """What a head that is not refused says of its request.

    `proven`: its credentials are all in the head, and right. If not, the body decides, and a body of more
    than `max_body_bytes` cannot be authentic.
    """

    proven: bool
    max_body_bytes: int | None = None


PROVEN = HeadVerdict(proven=True)
BODY_DECIDES = HeadVerdict(proven=False)


class Verdict(Enum):
    """What ingress does with a verified request."""

    STORE = "store"
    ANSWER_ONLY = "answer-only"


class RawEvent(msgspec.Struct, frozen=True):
    """What ingress kept of a request. `headers` holds the adapter's `kept_headers` that were there.

    `max_depth` is how deep its JSON may be, for `jsonbody.read`.
    """

    body: bytes
    headers: dict[str, str] = {}
    max_depth: int = MAX_DEPTH


S = TypeVar("S", bound=SourceSettings)


class Adapter(ABC, Generic[S]):
    """One source's way of being verified and read."""

    provider: ClassVar[str]
    Settings: ClassVar[type[SourceSettings]]
    kept_headers: ClassVar[tuple[bytes, ...]] = ()
    mapping: ClassVar[Mapping[str, str]] = {}
    """The provider's events, in words → canonical type: what the provider page is made from."""
    lifecycle: ClassVar[Lifecycle] = ANY
    """How its transactions go: what `headrace transaction` judges their order by."""
    in_turn: ClassVar[bool] = False
    """Whether its keys count (`DedupeKey.counts`): what is new depends on what came before, so one worker at
    a time admits its requests, in their order."""
    transactions_per_source: ClassVar[bool] = False
    """Whether a transaction id means something only within its source: the senders of two sources may be two
    businesses, whose ids meet by chance."""
    names_own_types: ClassVar[bool] = False
    """Whether its events may have types outside the table of canonical ones."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @abstractmethod
    def verify_head(self, head: RequestHead) -> HeadVerdict:
        """Refuse what `verify` would refuse whatever the body is, in constant time on bytes.

        Ingress asks before it waits for a body: a stranger must not be able to make it wait.

        Raises: NoSuchSource if the path token is wrong (404), which is checked first; NotVerified (401).
        """

    def verify(self, request: InboundRequest) -> Verdict:
        """Check all of a request's credentials, in constant time on bytes.

        This one is for providers whose credentials are all in the head.

        Raises: what `verify_head` raises.
        """
        self.verify_head(request)
        return Verdict.STORE

    @abstractmethod
    def normalise(self, raw: RawEvent) -> Event:
        """Read a stored request.

        Raises: Unreadable, and nothing else, whatever the bytes are.
        """

    def paths(self) -> list[str]:
        """Return the URL paths below `/webhooks/` that this source may be given, one a credential."""
        return [self.settings.name]

    def proof(self) -> list[str]:
        """Return, in words and without secrets, what a request must carry besides its URL."""
        return [f"header {name}" for name, _ in self.credential_headers(b"", id="", now=0)]

    def bound(self, event: str) -> bool | None:
        """Tell whether this source is given only this event, a key of `mapping`; None if it is given all."""
        return None

    def credential_headers(self, body: bytes, *, id: str, now: float) -> list[tuple[str, str]]:
        """Return the headers by which an authentic request proves itself: what a simulated one must carry.

        `id` is the request's own, the same when it is sent again; `now` is in seconds since 1970.
        """
        return []


AnyAdapter = Adapter[Any]
