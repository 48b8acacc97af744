"""A target's own headers: its `headers` and `auth`.

They are checked at the start and sent on every attempt.
"""

import re
from base64 import b64encode
from collections.abc import Mapping

from shared.errors import ConfigError
from shared.http.endpoint import header_name
from shared.secrets import Secret
from shared.settings import Auth

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Visible ASCII, with spaces and tabs inside: every receiver reads that in the same way.
_VALUE = re.compile(rb"[!-~](?:[ -~\t]*[!-~])?")
_BEARER = re.compile(rb"[!-~]+")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")

# Headers that Headrace sets, and headers for a proxy. The client refuses those that frame the body.
_OURS = frozenset((b"content-encoding", b"content-type", b"proxy-authorization", b"user-agent"))
_OUR_PREFIXES = (b"webhook-", b"ce-")


def own_headers(headers: Mapping[str, Secret], auth: Auth | None) -> list[tuple[bytes, bytes]]:
    """Return a target's own headers as they are sent.

    Raises: ConfigError with the path below the target (`headers.x-team`, `auth.bearer`), and no value.
    """
    found: dict[bytes, bytes] = {}
    if auth is not None:
        found[b"authorization"] = _authorization(auth)
    for name, value in headers.items():
        path = f"headers.{name}" if _TOKEN.fullmatch(name) else f"headers.{name!a}"
        line = _checked_name(name, path)
        if line in found:
            raise ConfigError(
                path, "stands there twice" if line != b"authorization" else "is set by `auth` too"
            )
        if not _VALUE.fullmatch(value.reveal()):
            raise ConfigError(path, "must be visible ASCII, with spaces only inside: no CR, LF or NUL")
        found[line] = value.reveal()
    return list(found.items())


def _checked_name(name: str, path: str) -> bytes:
    line = name.lower().encode(errors="replace")
    try:
        header_name(line)
    except ValueError as error:
        raise ConfigError(path, str(error)) from None
    if line in _OURS or line.startswith(_OUR_PREFIXES):
        raise ConfigError(path, "is a header that Headrace sets itself")
    return line


def _authorization(auth: Auth) -> bytes:
    if auth.bearer is not None:
        if auth.username is not None or auth.password is not None:
            raise ConfigError("auth", "must be a bearer token, or a username and a password, not both")
        if not _BEARER.fullmatch(auth.bearer.reveal()):
            raise ConfigError("auth.bearer", "must be visible ASCII without spaces")
        return b"Bearer " + auth.bearer.reveal()
    if auth.username is None or auth.password is None:
        raise ConfigError("auth", "must hold `bearer`, or `username` and `password`")
    for key, value in (("username", auth.username), ("password", auth.password)):
        if _CONTROL.search(value.reveal()):
            raise ConfigError(f"auth.{key}", "holds a control character")
    if b":" in auth.username.reveal():
        raise ConfigError("auth.username", "holds a colon, which would end it")
    return b"Basic " + b64encode(auth.username.reveal() + b":" + auth.password.reveal())
