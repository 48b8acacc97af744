"""The address of a gateway's records: the Redis, as redis-py and as Kombu take it, and the prefix."""

from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec

from shared.store.keys import Keys
from shared.store.tls import tls_options

FORMS = "redis://, rediss://, unix:// or sentinel://h1:26379,h2:26379/MASTER/0"


class RedisAddress(msgspec.Struct, frozen=True):
    """A parsed `redis.url`: the `path` of a socket, `sentinels` and their `master`, or `host` and `port`.

    `tls` has the options of TLS by redis-py's names, taken out of `url`; it is empty without TLS. `keys` are
    the names of what the gateway keeps there.
    """

    url: str
    keys: Keys
    db: int = 0
    path: str = ""
    host: str = ""
    port: int = 6379
    tls: dict[str, Any] = {}
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
        login = ""
        if self.password is not None:
            login = f"{quote(self.username or '', safe='')}:{quote(self.password, safe='')}@"
        if self.sentinels:
            urls = ";".join(f"sentinel://{login}{host}:{port}/{self.db}" for host, port in self.sentinels)
            return urls, {**options, "master_name": self.master}
        if self.path:
            return f"redis+socket://{login}{quote(self.path)}?virtual_host={self.db}", options
        return self.url, options


def parse_address(url: str, prefix: str) -> RedisAddress:
    """Read a `redis.url`; `prefix` is `redis.prefix`. Raises: ValueError."""
    parts, keys = urlsplit(url), Keys(prefix)
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError("names no socket: write unix:///path/to/redis.sock")
        return RedisAddress(
            url=url,
            keys=keys,
            db=_db(parts.query.removeprefix("db=")),
            path=unquote(parts.path),
            username=unquote(parts.username or "") or None,
            password=unquote(parts.password or "") or None,
        )
    if parts.scheme in ("redis", "rediss"):
        if not parts.hostname:
            raise ValueError("names no host: write redis://HOST:PORT/0")
        if parts.scheme == "redis" and parts.query:
            raise ValueError("takes no options: write redis://HOST:PORT/0")
        return RedisAddress(
            url=url.partition("?")[0],
            keys=keys,
            db=_db(parts.path.strip("/")),
            host=unquote(parts.hostname),
            port=parts.port or 6379,  # not a number: ValueError here, and not at the first connection
            tls=tls_options(parts.query) if parts.scheme == "rediss" else {},
            username=unquote(parts.username or "") or None,
            password=unquote(parts.password or "") or None,
        )
    if parts.scheme == "sentinel":
        hosts = parts.netloc.rpartition("@")[2].split(",")
        master, _, db = parts.path.strip("/").partition("/")
        if not master or not all(hosts):
            raise ValueError("names no master: write sentinel://h1:26379,h2:26379/MASTER/0")
        # urlsplit reads a netloc of several hosts wrongly.
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
