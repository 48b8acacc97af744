"""Where a gateway's records are: which Redis, as redis-py and as Kombu want it, and under which prefix."""

from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec

from shared.store.keys import Keys

FORMS = "redis://, rediss://, unix:// or sentinel://h1:26379,h2:26379/MASTER/0"


class RedisAddress(msgspec.Struct, frozen=True):
    """A parsed `redis.url`: `sentinels` and `master` for a Sentinel set, else `url` as it is.

    `keys` are the names of what the gateway keeps there.
    """

    url: str
    keys: Keys
    db: int = 0
    sentinels: tuple[tuple[str, int], ...] = ()
    master: str = ""
    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:  # the URL may hold a password
        return f"RedisAddress({self.shown})"

    @property
    def shown(self) -> str:
        """The address without credentials, for people."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def broker(self) -> tuple[str, dict[str, Any]]:
        """Return Kombu's broker URL and the transport options that go with it."""
        options: dict[str, Any] = {"global_keyprefix": self.keys.celery} if self.keys.celery else {}
        if self.sentinels:
            login = ""
            if self.password is not None:
                login = f"{quote(self.username or '', safe='')}:{quote(self.password, safe='')}@"
            urls = ";".join(f"sentinel://{login}{host}:{port}/{self.db}" for host, port in self.sentinels)
            return urls, {**options, "master_name": self.master}
        if self.url.startswith("unix://"):
            path = urlsplit(self.url).path
            return f"redis+socket://{path}?virtual_host={self.db}", options
        return self.url, options


def parse_address(url: str, prefix: str) -> RedisAddress:
    """Read a `redis.url`; `prefix` is `redis.prefix`. Raises: ValueError."""
    parts, keys = urlsplit(url), Keys(prefix)
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError("names no socket: write unix:///path/to/redis.sock")
        return RedisAddress(url=url, keys=keys, db=_db(parts.query.removeprefix("db=")))
    if parts.scheme in ("redis", "rediss"):
        if not parts.hostname:
            raise ValueError("names no host: write redis://HOST:PORT/0")
        _ = parts.port  # a port that is none raises ValueError here, not at the first connection
        return RedisAddress(url=url, keys=keys, db=_db(parts.path.strip("/")))
    if parts.scheme == "sentinel":
        hosts = parts.netloc.rpartition("@")[2].split(",")
        master, _, db = parts.path.strip("/").partition("/")
        if not master or not all(hosts):
            raise ValueError("names no master: write sentinel://h1:26379,h2:26379/MASTER/0")
        # With several hosts in it, urlsplit's own reading of the netloc is wrong.
        user, _, password = parts.netloc.rpartition("@")[0].partition(":")
        return RedisAddress(
            url=url,
            keys=keys,
            db=_db(db),
            sentinels=tuple(_host_port(host) for host in hosts),
            master=master,
            username=unquote(user) or None,
            password=unquote(password) or None,
        )
    raise ValueError(f"must be {FORMS}")


def _db(text: str) -> int:
    if text and not text.isdecimal():
        raise ValueError(f"the database must be a number, not {text!r}")
    return int(text or 0)


def _host_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon:
        return text, 26379
    if not host or not port.isdecimal():
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host, int(port)
