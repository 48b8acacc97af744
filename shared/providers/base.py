"""What a provider's adapter is: bytes in, values out. No clock, no I/O, no logger.

A provider is one folder of this package. It defines its `Settings` (the keys its sources take in the
configuration) and its adapter class, and names that class `ADAPTER`; nothing else knows the provider.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from shared.event.canonical import Event
from shared.event.jsonbody import MAX_DEPTH
from shared.event.lifecycle import ANY, Lifecycle
from shared.settings import SourceSettings
from shared.values import MemberPath


class RequestHead(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a request that comes before its body. `headers` as ASGI gives them: lower-case names, raw
    bytes, repeats kept.

    An adapter has no clock: `received_at` is the time of ingress, in seconds since 1970.
    """

    headers: list[tuple[bytes, bytes]]
    path_token: str | None
    received_at: float


class InboundRequest(RequestHead, frozen=True, kw_only=True):
    """A whole request to verify."""

    body: bytes


class HeadVerdict(msgspec.Struct, frozen=True):
    """What the head of a request says about its credentials, if it is not refused.

    `proven`: all credentials are in the head, and they are right. If not, the body decides, and a body of
    more than `max_body_bytes` cannot be authentic.
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
    """What ingress kept of a request. `headers` has those of the adapter's `kept_headers` that it had.

    `max_depth` is how deep its JSON may be, for `jsonbody.read`.
    """

    body: bytes
    headers: dict[str, str] = {}
    max_depth: int = MAX_DEPTH


S = TypeVar("S", bound=SourceSettings)


class Adapter(ABC, Generic[S]):
    """Verifies and reads the requests of one source."""

    provider: ClassVar[str]
    Settings: ClassVar[type[SourceSettings]]
    kept_headers: ClassVar[tuple[bytes, ...]] = ()
    mapping: ClassVar[Mapping[str, str]] = {}
    """The provider's events → canonical type. The table in README.md is made from it."""
    lifecycle: ClassVar[Lifecycle] = ANY
    """How its transactions go, by which `headrace transaction` judges the order of events."""
    in_turn: ClassVar[bool] = False
    """Whether its dedupe keys count (`DedupeKey.counts`).

    Whether an event is new then depends on those before it, so one worker at a time admits its requests, in
    their order.
    """
    transactions_per_source: ClassVar[bool] = False
    """Whether a transaction id is unique only within its source: two sources may be two businesses, with
    equal ids by chance.
    """
    names_own_types: ClassVar[bool] = False
    """Whether its events may have types outside the table of canonical ones."""
    read_from: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Each field of an event's `parties` and `details` → the places in the body that it may be read from.

    Who redacts one has the other redacted with it. All are paths as `MemberPath` reads them.
    """
    redacted_by_default: ClassVar[tuple[str, ...]] = ()
    """What no target gets, unless a key of the source opens it: what someone could pay with."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @abstractmethod
    def verify_head(self, head: RequestHead) -> HeadVerdict:
        """Refuse a request that `verify` would refuse whatever its body is, in constant time on bytes.

        Ingress calls it before it waits for the body, so that a stranger cannot make it wait.

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
        """Return, as text without secrets, what a request must carry besides its URL."""
        return [f"header {name}" for name, _ in self.credential_headers(b"", id="", now=0)]

    def redacted(self) -> tuple[MemberPath, ...]:
        """Return what no target gets of this source's events."""
        return (*map(MemberPath, self.redacted_by_default), *self.settings.redact)

    def bound(self, event: str) -> bool | None:
        """Tell whether this source is bound to this event, a key of `mapping`; None if it has no binding."""
        return None

    def credential_headers(self, body: bytes, *, id: str, now: float) -> list[tuple[str, str]]:
        """Return the headers with the credentials of an authentic request, for one that is simulated.

        `id` is the request's own, the same when it is sent again; `now` is in seconds since 1970.
        """
        return []


AnyAdapter = Adapter[Any]
