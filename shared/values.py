"""The value types that configuration strings become: durations, secrets, networks."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, ClassVar, Self

from shared.secrets import Secret

Network = IPv4Network | IPv6Network

ALL_NETWORKS: tuple[Network, ...] = (ip_network("0.0.0.0/0"), ip_network("::/0"))
_ANYWHERE = "**."
_NO_NAME = re.compile(r"[*\[\]]|^/")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(float):
    """Seconds, written as in `0.5s`, `15s`, `10m`, `12h` or `7d`. `longest` is the most that one may be."""

    longest: ClassVar[str] = "3650d"

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read a duration. Raises: ValueError."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value) if isinstance(value, str) else None
        if match is None:
            raise ValueError('is not a duration: write a number and s, m, h or d, as in "15s"')
        seconds = cls(float(match[1]) * _UNITS_S[match[2]])
        if not 0 < seconds <= int(cls.longest[:-1]) * _UNITS_S[cls.longest[-1]]:
            raise ValueError(f"must be longer than 0s and at most {cls.longest}")
        return seconds

    @property
    def ms(self) -> int:
        """The duration in whole milliseconds, at least one."""
        return max(1, round(self * 1000))


class RequestTimeout(Duration):
    """How long a provider may take for a part of its request."""

    longest = "600s"


class Months(int):
    """Whole months of the calendar, written as in `18mo` or `7y`."""

    longest: ClassVar[str] = "100y"

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read a number of months or years. Raises: ValueError."""
        match = re.fullmatch(r"([0-9]{1,9})(mo|y)", value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(
                'is not a number of months or years: write it with mo or y, as in "18mo" or "7y"'
            )
        months = cls(int(match[1]) * (12 if match[2] == "y" else 1))
        if not 0 < months <= int(cls.longest[:-1]) * 12:
            raise ValueError(f"must be at least 1mo and at most {cls.longest}")
        return months


class Secrets(tuple[Secret, ...]):
    """One secret or several: while rotating, the newest first."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read a string or a list of strings. Raises: ValueError if the list or a string is empty."""
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError("must be a string, or a list of strings while rotating")
        if not texts or not all(text.strip() for text in texts):
            raise ValueError("is empty")
        return cls(Secret(text) for text in texts)


class Private(tuple[Network, ...]):
    """The networks whose private addresses a target may have: `true` stands for all, `false` for none."""

    __slots__ = ()  # no attribute: the equality of tuples would not see it

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read true, false or a list of CIDRs. Raises: ValueError."""
        if isinstance(value, bool):
            return cls(ALL_NETWORKS if value else ())
        if not isinstance(value, list):
            raise ValueError("must be true, false or a list of CIDRs")
        return cls(parse_network(entry) for entry in value)


class Rate(float):
    """Deliveries a second, written as in `50/s`, `1000/m` or `20000/h`."""

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read a rate. Raises: ValueError."""
        match = re.fullmatch(r"(\d{1,9})/([smh])", value) if isinstance(value, str) else None
        if match is None or int(match[1]) == 0:
            raise ValueError('is not a rate: write a number and /s, /m or /h, as in "50/s"')
        return cls(int(match[1]) / _UNITS_S[match[2]])

    @property
    def interval_us(self) -> int:
        """The microseconds between two deliveries at an even rate."""
        return max(1, round(1_000_000 / self))

    @property
    def burst(self) -> int:
        """How many deliveries may go at once after a pause: those of one second, at least one."""
        return max(1, int(self))


class MemberPath(str):
    """Where a member stands in a JSON body: names joined by dots, beginning at the outermost object.

    Lists, and strings that hold JSON, are gone through: `items.name` is that of every item. `**.` at the
    beginning means at any depth.
    """

    __slots__ = ("anywhere", "names")

    names: tuple[str, ...]
    anywhere: bool

    def __new__(cls, text: str) -> Self:
        """Read a path. Raises: ValueError."""
        path = super().__new__(cls, text)
        names = text.removeprefix(_ANYWHERE)
        path.names, path.anywhere = tuple(names.split(".")), names != text
        for name in path.names:
            if not name or name != name.strip() or name.isdigit() or name == "$" or _NO_NAME.search(name):
                raise ValueError(
                    'is not a path: write names joined by dots, as in "payin.card". It takes no index (all'
                    ' items of a list are meant), and no wildcard but "**." at its beginning, for any depth'
                )
        return path

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read a path. Raises: ValueError."""
        if not isinstance(value, str):
            raise ValueError("must be a string")
        return cls(value)


def parse_network(value: object) -> Network:
    """Read a CIDR or a single address. Raises: ValueError."""
    try:
        if not isinstance(value, str):
            raise ValueError
        return ip_network(value)
    except ValueError:
        raise ValueError('is not a network: write a CIDR as in "203.0.113.0/24"') from None


def duration_text(seconds: float) -> str:
    """Return a duration as a configuration has it, in the largest unit that is exact: `3d`, `90s`.

    A computed one is rounded: `3.1d`.
    """
    counts = {unit: seconds / size for unit, size in reversed(_UNITS_S.items())}
    for unit, count in counts.items():
        if count == int(count):
            return f"{int(count)}{unit}"
    unit = next((unit for unit, count in counts.items() if count >= 1), "s")
    return f"{round(counts[unit], 2):g}{unit}"


def clipped(text: str, most_bytes: int) -> str:
    """Return a text's first `most_bytes` bytes of UTF-8, whole characters only."""
    return text.encode("utf-8", "replace")[:most_bytes].decode("utf-8", "ignore")


def decode_value(type_: type, value: object) -> Any:
    """Build a type that has a `parse` from a configuration value: msgspec's `dec_hook`."""
    if type_ is Secret:
        if not isinstance(value, str) or not value.strip():
            raise ValueError("is empty" if value == "" else "must be a non-empty string")
        return Secret(value)
    parse = getattr(type_, "parse", None)
    if parse is None:
        raise NotImplementedError(type_)
    return parse(value)
