"""What is kept of a target's answer, and how much of it is read."""

import msgspec


class Answer(msgspec.Struct, frozen=True):
    """A target's answer: its final status, and the little else that is needed.

    `body` holds the first bytes as they were sent, never decoded; `truncated` says that there were more.
    `retry_after` is that header's value as it was sent, None if it is longer than a date can be.
    """

    status: int
    retry_after: bytes | None
    body: bytes
    truncated: bool


class Caps(msgspec.Struct, frozen=True):
    """Limits in bytes: of a whole answer, of its heads, and of the part of its body that is kept."""

    max_answer_bytes: int
    max_head_bytes: int
    keep_body_bytes: int
