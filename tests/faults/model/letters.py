"""What the run's providers send, and how it is read: with no adapter, which are another test's subject."""

from collections.abc import Collection, Mapping

import msgspec

from shared.event.canonical import DedupeKey
from shared.routing.reading import POISON, Reader
from shared.store.admission import Admission, Entry, Quarantine

ATTRIBUTES, DATA = b'{"source":"/sources/x","type":"payment.received"}', b'{"provider":"x"}'
TAKES_ALONE = 1


class Letter(msgspec.Struct, frozen=True):
    """A body. `key` 0: the body itself is what a copy is known by. `bad`: unreadable until the adapter is fixed.

    `counted` and `raising` use the counter of its source (see DedupeKey). `unwanted`: no target matches it.
    """

    key: int
    variant: int
    transaction: str
    bad: bool
    counted: bool
    raising: bool
    unwanted: bool = False


class Route(msgspec.Struct, frozen=True):
    """A target as it is configured: which sources feed it, and how it orders."""

    sources: Collection[str]
    concurrency: int
    ordered: bool = False
    hold: bool = False


class Reading(Reader):
    """Reads letters by the run's configuration, which the machine changes in place."""

    def __init__(self, routes: Mapping[str, Route], *, window_ms: int, resend_ms: int) -> None:
        self._routes = routes
        self._window_ms, self._resend_ms = window_ms, resend_ms
        self.fixed = False

    def knows(self, source: str) -> bool:
        return True

    def window_ms(self, source: str) -> int:
        return self._window_ms

    def resend_ms(self, source: str) -> int:
        return self._resend_ms

    def read(self, entry: Entry) -> Admission | Quarantine:
        letter = msgspec.json.decode(entry.body, type=Letter)
        if entry.takes_alone > TAKES_ALONE:
            return Quarantine(entry, POISON, "its workers died")
        if letter.bad and not self.fixed:
            return Quarantine(entry, "not-read", "it is bad")
        return Admission(
            entry=entry,
            dedupe=DedupeKey(
                (str(letter.key),), "c" if letter.counted else None, "c" if letter.raising else None
            )
            if letter.key
            else None,
            targets=[
                name
                for name, route in self._routes.items()
                if entry.source in route.sources and not letter.unwanted
            ],
            attributes=ATTRIBUTES,
            data=DATA,
            transaction=letter.transaction,
            in_order=[name for name, route in self._routes.items() if route.ordered],
        )
