"""A dead letter as it is kept on disk.

It stands apart from the table, so that reading one needs no SQL.
"""

from collections.abc import Sequence

import msgspec

ENDED = "ended"
"""How a delivery ended if it is not known: its event has left Redis, and no letter says."""


class StoredLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter, as a row. Times are milliseconds since 1970 by Redis's clock.

    `attempts` is a JSON object: the name of the field in Redis → an attempt. `ends` is a JSON object: target
    → how its delivery had ended when this letter was moved. `why`, `ordered` and `targets` are written as in
    Redis. `body` is empty if a listing did not ask for it.
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
    """Return how each delivery of an event ended, by target, as far as its letters say."""
    in_order = sorted(letters, key=lambda letter: letter.died_ms)
    ends = {name: ENDED for letter in in_order for name in letter.targets.split(",") if name}
    for letter in in_order:
        ends |= msgspec.json.decode(letter.ends, type=dict[str, str])
    return ends | dict.fromkeys((letter.target for letter in letters), "dead")
