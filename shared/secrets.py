"""Secret values: kept out of every repr, compared in constant time on bytes."""

import hmac
from collections.abc import Iterable
from hashlib import sha256
from typing import Self


class Secret:
    """A credential. `repr` and `str` never show it; `reveal()` is the one way to its bytes."""

    __slots__ = ("_value",)

    def __init__(self, value: str | bytes) -> None:
        self._value = value.encode() if isinstance(value, str) else value

    def reveal(self) -> bytes:
        """Return the secret's bytes."""
        return self._value

    def masked(self) -> str:
        """Return a stand-in that tells two secrets apart: `…` and four hex digits of a digest."""
        return "…" + sha256(self._value).hexdigest()[:4]

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> Self:
        return self


def matches_any(candidate: bytes, secrets: Iterable[Secret]) -> bool:
    """Tell whether `candidate` is one of `secrets`, in time that does not depend on which.

    Every secret is compared, and `hmac.compare_digest` gets bytes: on non-ASCII text it raises.
    """
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(candidate, secret.reveal())
    return found
