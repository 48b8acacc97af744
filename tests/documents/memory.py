"""How much memory finished events take: a formula, which tests/integration/test_memory.py holds to a real Redis."""

from itertools import product

PACKED, OF_BODY, EACH_TARGET = 800, 0.26, 30
UNPACKED, OF_ITS_BODY = 2200, 1.02
MINUTE_S, DAY_S = 60, 86_400

RATES, BODIES, DAYS = (1, 10, 100), (342, 4_000), (1, 7)


def packed(body: int, targets: int = 1) -> float:
    """Return the bytes of a finished event, if its body has so many and it went to so many targets."""
    return PACKED + OF_BODY * body + EACH_TARGET * (targets - 1)


def unpacked(body: int) -> float:
    """Return the bytes of one that came within the last minute, for one target."""
    return UNPACKED + OF_ITS_BODY * body


def held(rate: float, body: int, days: float) -> float:
    """Return the bytes of all events that are kept so long, at so many a second, for one target."""
    return rate * (days * DAY_S * packed(body) + MINUTE_S * unpacked(body))


def table() -> str:
    """Return the formula and what it comes to, in Markdown."""
    rows = [
        f"| {rate} | {body:,} | {days} | {_gigabytes(held(rate, body, days))} |"
        for body, rate, days in product(BODIES, RATES, DAYS)
    ]
    return "\n".join(
        [
            "```",
            f"bytes of an event = {PACKED} + {OF_BODY} × body + {EACH_TARGET} × (targets − 1)",
            f"in its first minute = {UNPACKED:,} + {OF_ITS_BODY} × body, for one target",
            f"memory = events a second × (days × {DAY_S:,} × bytes of an event + {MINUTE_S} × those in its first minute)",
            "```",
            "",
            "| events a second | bytes of a body | days | memory |",
            "|---:|---:|---:|---:|",
            *rows,
        ]
    )


def _gigabytes(count: float) -> str:
    return f"{count / 2**30:,.1f} GiB"
