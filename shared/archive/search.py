"""What events are searched by, in Redis and in the archive. The words are the same for every skin."""

import fnmatch
import re

import msgspec

FOR_EVER_MS = 2**53
"""A time after all others, in milliseconds since 1970."""

_SPECIAL = re.compile(r"[*?\[]")


class Search(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which events: those for which all that is given holds.

    `since_ms` and `until_ms` are when they came in, both included. `id` is any id: the event's own, or the
    provider's of its transaction, its payment or itself. `type` is a glob. `state` is that of a delivery, or
    `unmatched`, and `target` its target: of the same delivery, if both are given. `status` and `error` are of
    one of its attempts: HTTP's status, and the word of an error (shared.errors.EgressError). Amounts are in
    minor units of `currency`, both included. `party` is the whole name of a party; `text` is words of the
    payload, one behind the other.
    """

    since_ms: int = 0
    until_ms: int = FOR_EVER_MS
    id: str | None = None
    source: str | None = None
    type: str | None = None
    state: str | None = None
    target: str | None = None
    transaction: str | None = None
    payment: str | None = None
    provider_event: str | None = None
    status: int | None = None
    error: str | None = None
    currency: str | None = None
    least: int | None = None
    most: int | None = None
    party: str | None = None
    text: str | None = None

    def takes_type(self, type: str) -> bool:
        """Tell whether a type is one of those that are searched for."""
        return self.type is None or fnmatch.fnmatchcase(type, self.type)

    @property
    def narrowed(self) -> bool:
        """Whether it asks for more than a source and when an event came in."""
        return self != Search(since_ms=self.since_ms, until_ms=self.until_ms, source=self.source)

    @property
    def of_attempts(self) -> bool:
        """Whether it asks for something of an attempt."""
        return self.status is not None or self.error is not None

    @property
    def of_payload(self) -> bool:
        """Whether it asks for something that only the payload has."""
        return self.party is not None or self.text is not None


def same(party: str) -> str:
    """Return what is the same for all ways to write a party: in any case, with spaces around it or not."""
    return party.strip().casefold()


def is_glob(pattern: str) -> bool:
    """Tell whether a pattern stands for more than itself."""
    return bool(_SPECIAL.search(pattern))


def beginning(pattern: str) -> str:
    """Return what all that a glob matches begins with."""
    return _SPECIAL.split(pattern, maxsplit=1)[0]


def as_regex(pattern: str) -> str:
    """Return a glob as a regular expression of PostgreSQL."""
    parts, at = ["^"], 0
    while at < len(pattern):
        char = pattern[at]
        end = pattern.find("]", at + 2) if char == "[" else -1
        if end > 0:
            inside = pattern[at + 1 : end].replace("\\", "\\\\")
            parts.append(f"[^{inside[1:]}]" if inside[0] == "!" else f"[{inside}]")
            at = end
        else:
            parts.append({"*": ".*", "?": "."}.get(char) or re.escape(char))
        at += 1
    return "".join(parts) + "$"
