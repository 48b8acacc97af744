"""The ways in which providers prove who they are: Basic, a secret in a header, a token in the path.

Every comparison is of bytes, in constant time, against every configured secret. A repeated header is refused:
two servers on the way may have read different copies.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Iterable

from shared.errors import NoSuchSource, NotVerified, RepeatedCredentials
from shared.providers.base import RequestHead
from shared.secrets import Secret, matches_any
from shared.settings import SourceSettings

_PATH_SAFE = re.compile(rb"[A-Za-z0-9._~-]*")


class PathTokenSettings(SourceSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of a source whose only credential is an unguessable path."""

    path_tokens: tuple[Secret, ...]

    def __post_init__(self) -> None:
        """Refuse tokens that are not a path segment, or that a URL would change."""
        for token in self.path_tokens:
            if not _PATH_SAFE.fullmatch(token.reveal()) or token.reveal() in {b".", b".."}:
                raise ValueError(
                    "`path_tokens` may hold only letters, digits and - . _ ~ (they are part of a URL)"
                )

    def token_paths(self) -> list[str]:
        """Return this source's paths, `name/token`, one for each token."""
        return [f"{self.name}/{token.reveal().decode()}" for token in self.path_tokens]


def check_basic(head: RequestHead, username: str, passwords: Iterable[Secret]) -> None:
    """Check the one `authorization` header: `Basic`, this user, any of these passwords.

    Raises: NotVerified.
    """
    scheme, _, encoded = (one_header(head, b"authorization") or b"").partition(b" ")
    if scheme.lower() != b"basic":
        raise NotVerified("no Basic credentials")
    try:
        pair = base64.b64decode(encoded.strip(b" "), validate=True)
    except binascii.Error:
        raise NotVerified("the Basic credentials are not base64") from None
    user, colon, password = pair.partition(b":")
    # Both halves are always compared, so that the time does not tell which one was wrong.
    same_user = hmac.compare_digest(user, username.encode())
    same_password = matches_any(password, passwords)
    if not (bool(colon) & same_user & same_password):
        raise NotVerified("wrong Basic credentials")


def check_header(head: RequestHead, name: bytes, secrets: Iterable[Secret]) -> None:
    """Check the one header `name`: any of these secrets.

    Raises: NotVerified.
    """
    given = one_header(head, name)
    if given is None:
        raise NotVerified(f"no {name.decode()} header")
    if not matches_any(given, secrets):
        raise NotVerified(f"wrong {name.decode()} header")


def check_path_token(head: RequestHead, tokens: Iterable[Secret]) -> None:
    """Check the path's token: any of these.

    Raises: NoSuchSource, as for an unknown source, so that a guesser learns nothing.
    """
    given = head.path_token
    # `surrogatepass`: a path of odd bytes is a wrong token, not an error.
    if given is None or not matches_any(given.encode("utf-8", "surrogatepass"), tokens):
        raise NoSuchSource("no source has this path")


def check_no_path_token(head: RequestHead) -> None:
    """Check that the path ends with the source's name.

    Raises: NoSuchSource.
    """
    if head.path_token is not None:
        raise NoSuchSource("no source has this path")


def one_header(head: RequestHead, name: bytes) -> bytes | None:
    """Return the header's value; None if it is absent. Raises: RepeatedCredentials."""
    values = [value for key, value in head.headers if key == name]
    if len(values) > 1:
        raise RepeatedCredentials(f"repeated {name.decode()} header")
    return values[0] if values else None
