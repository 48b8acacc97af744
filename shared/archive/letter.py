"""A dead letter as it is kept on disk. Apart from the table: what only reads one needs no SQL."""

from collections.abc import Sequence

import msgspec

ENDED = "ended"
"""How a delivery ended if nobody knows any more: its event has left Redis, and no letter tells of it."""


class StoredLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter, as a row. Times are milliseconds since 1970 by Redis's clock.

    `attempts` is a JSON object of the target's attempts by the field that they had in Redis; `ends` one of
    target → how its delivery had ended, for good, when this letter was moved. `why`, `ordered` and `targets`
    are written as in Redis. `body` is empty if a listing did not ask for it.
    """

    id: str
    target: str
    source: str
    type: str
    received_ms: int
    died_ms: int
    failed: int
    attempts: bytes
    attributes: bytes
    data: bytes
    body: bytes = b""
    content_type: str = ""
    digest: str = ""
    transaction_key: str = ""
    ordered: str = ""
    targets: str = ""
    ends: bytes = b"{}"
    why: str = ""
    copies: int = 0
    differing: int = 0
    copy_of: str = ""
    moving: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """The event's id and the target's name: no two letters have the same."""
        return self.id, self.target


def ends_of(letters: Sequence[StoredLetter]) -> dict[str, str]:
    """Return how each delivery of an event ended, by target, as all of its letters tell."""
    in_order = sorted(letters, key=lambda letter: letter.died_ms)
    ends = {name: ENDED for letter in in_order for name in letter.targets.split(",") if name}
    for letter in in_order:
        ends |= msgspec.json.decode(letter.ends, type=dict[str, str])
    return ends | dict.fromkeys((letter.target for letter in letters), "dead")
