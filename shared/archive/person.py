"""Whose personal data is erased, and what is left of what held it. This only computes.

What is left says that something happened, when, about which transaction and which amount, and how it was
delivered. It names nobody.
"""

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import msgspec

from shared.archive.event import ArchivedCopy, ArchivedEvent
from shared.archive.letter import StoredLetter
from shared.archive.rows import error_word
from shared.archive.search import same
from shared.errors import Unreadable
from shared.event.jsonbody import read
from shared.event.record import JSON
from shared.event.words import split

ERASED = b'{"erased":true}'
"""The body of an event whose personal data was erased."""

DISTINCT = 8
"""A name of fewer characters is looked for among the parties alone: in a text, it could be anything."""


class _Data(msgspec.Struct, frozen=True):
    provider: str = ""
    parties: dict[str, str] = {}


_data = msgspec.json.Decoder(_Data).decode
_object = msgspec.json.Decoder(dict[str, Any]).decode
_objects = msgspec.json.Decoder(dict[str, dict[str, Any]]).decode
_encode = msgspec.json.Encoder().encode


class Person(msgspec.Struct, frozen=True, dict=True):
    """A party, by the name that its provider gives it; of one provider, if that is given."""

    party: str
    provider: str | None = None

    @property
    def is_distinct(self) -> bool:
        """Whether the name is looked for in bodies, too."""
        return len(same(self.party)) >= DISTINCT and bool(split(self.party))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(rf"(?<![\w.+-]){re.escape(same(self.party))}(?!\w|[.-]\w)")

    def is_of(self, data: bytes, body: bytes) -> bool:
        """Tell whether an event is about this person: a party of it, or named in its body."""
        known = _data(data)
        if self.provider not in (None, known.provider):
            return False
        return same(self.party) in map(same, known.parties.values()) or self.is_named_in(body)

    def is_named_in(self, body: bytes) -> bool:
        """Tell whether a body, JSON or not, has the name as a whole."""
        if not self.is_distinct:
            return False
        text = body.decode("utf-8", "replace")
        if "\\" in text:
            try:
                return any(map(self._has, _texts(read(body))))
            except Unreadable:
                pass
        return self._has(text)

    def _has(self, text: str) -> bool:
        folded = text.casefold()
        return same(self.party) in folded and bool(self._pattern.search(folded))

    def erased_data(self, data: bytes) -> bytes:
        """Return an event's canonical data without parties, details, and whatever else has the name."""
        kept = {key: None if self._is(value) else value for key, value in _object(data).items()}
        return _encode(kept | {"parties": {}, "details": {}})

    def erased_attributes(self, attributes: bytes) -> bytes:
        """Return an event's attributes without a subject that has the name."""
        kept = _object(attributes)
        return _encode({key: value for key, value in kept.items() if key != "subject" or not self._is(value)})

    def _is(self, value: object) -> bool:
        return isinstance(value, str) and (
            same(value) == same(self.party) or self.is_named_in(value.encode())
        )

    def erased_event(self, event: ArchivedEvent) -> ArchivedEvent:
        """Return what is left of an archived event."""
        return msgspec.structs.replace(
            event,
            attributes=self.erased_attributes(event.attributes),
            data=self.erased_data(event.data),
            body=ERASED,
            content_type=JSON,
            attempts={field: erased_attempt(value) for field, value in event.attempts.items()},
        )

    def erased_letter(self, letter: StoredLetter) -> StoredLetter:
        """Return what is left of a dead letter on disk."""
        attempts = {
            field: msgspec.Raw(erased_attempt(_encode(attempt)))
            for field, attempt in _objects(letter.attempts).items()
        }
        return msgspec.structs.replace(
            letter,
            attributes=self.erased_attributes(letter.attributes),
            data=self.erased_data(letter.data),
            body=ERASED,
            content_type="",
            attempts=_encode(attempts),
        )


def erased_copy(copy: ArchivedCopy) -> ArchivedCopy:
    """Return what is left of a suppressed copy."""
    return msgspec.structs.replace(copy, headers=b"", body=None)


def erased_attempt(attempt: bytes) -> bytes:
    """Return what is left of an attempt, as JSON: no answer, and of an error its word."""
    kept = {key: value for key, value in _object(attempt).items() if key != "answer"}
    if "error" in kept:
        kept["error"] = error_word(kept["error"])
    return _encode(kept)


def _texts(value: Any) -> Iterator[str]:
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            stack += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            stack += value
        elif isinstance(value, str):
            yield value
