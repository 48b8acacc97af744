"""Standard Webhooks signatures: made for every delivery, checked by the demo receiver.

Source: the Standard Webhooks specification. The signed content is `<id>.<timestamp>.<body>`; the header
`webhook-signature` holds one signature a secret, separated by spaces:
`v1,<base64>` by HMAC-SHA256, `v1a,<base64>` by Ed25519.
"""

import binascii
import hmac
import secrets as randomness
from base64 import b64decode, b64encode
from collections.abc import Iterable
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from shared.secrets import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SYMMETRIC = b"whsec_"
ASYMMETRIC = b"whsk_"
PUBLIC = b"whpk_"
TOLERANCE_S = 300

_SEED_BYTES = 32


class SigningKey(Protocol):
    """The key that a secret stands for."""

    @property
    def public(self) -> str | None:
        """The public key, `whpk_…`, with which anyone can check a signature; None for a shared secret."""

    def sign(self, content: bytes) -> bytes:
        """Return one signature of the header: its version, a comma, and base64."""


class HmacKey:
    """HMAC-SHA256 with a secret that the receiver has, too: `v1`."""

    public = None

    def __init__(self, key: bytes) -> None:
        # Hashing the key costs more than hashing a short content, so it is done once.
        self._begun = hmac.new(key, digestmod=sha256)

    def sign(self, content: bytes) -> bytes:
        """Return `v1,…`."""
        mac = self._begun.copy()
        mac.update(content)
        return b"v1," + binascii.b2a_base64(mac.digest(), newline=False)


class Ed25519Key:
    """Ed25519, of which the receiver has the public key only: `v1a`."""

    def __init__(self, private: "Ed25519PrivateKey") -> None:
        self._private = private

    @property
    def public(self) -> str:
        """The public key, `whpk_…`."""
        return (PUBLIC + b64encode(self._private.public_key().public_bytes_raw())).decode()

    def sign(self, content: bytes) -> bytes:
        """Return `v1a,…`. The same content has the same signature each time."""
        return b"v1a," + b64encode(self._private.sign(content))


def signing_key(secret: Secret) -> SigningKey:
    """Return the key of a secret: `whsec_` and base64 of 24 to 64 bytes, or `whsk_` and base64 of an
    Ed25519 seed and its public key.

    Raises: ValueError, whose message repeats nothing of the secret.
    """
    prefix, underscore, text = secret.reveal().partition(b"_")
    prefix += underscore
    if prefix not in (SYMMETRIC, ASYMMETRIC):
        raise ValueError("must start with whsec_ or whsk_ (make one with `headrace secret`)")
    try:
        key = b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError(f"is not base64 after {prefix.decode()}") from None
    if prefix == SYMMETRIC:
        if not 24 <= len(key) <= 64:
            raise ValueError(f"must hold 24 to 64 bytes, not {len(key)}")
        return HmacKey(key)
    if len(key) != 2 * _SEED_BYTES:
        raise ValueError(f"must hold 64 bytes (a seed and its public key), not {len(key)}")
    private = _private_key(key[:_SEED_BYTES])
    if private.public_key().public_bytes_raw() != key[_SEED_BYTES:]:
        raise ValueError("holds a public key that is not its seed's")
    return Ed25519Key(private)


def new_secret() -> str:
    """Return a fresh `whsec_…` of 32 random bytes."""
    return (SYMMETRIC + b64encode(randomness.token_bytes(32))).decode()


def new_asymmetric_secret() -> str:
    """Return a fresh `whsk_…`."""
    seed = randomness.token_bytes(_SEED_BYTES)
    return (ASYMMETRIC + b64encode(seed + _private_key(seed).public_key().public_bytes_raw())).decode()


def sign(keys: Iterable[SigningKey], id: str, timestamp: int, body: bytes) -> bytes:
    """Return the value of `webhook-signature`: one signature for each key, in their order."""
    content = f"{id}.{timestamp}.".encode() + body
    return b" ".join([key.sign(content) for key in keys])


def in_time(timestamp: int, *, now: float) -> bool:
    """Tell whether `timestamp` is within five minutes of `now`, both in seconds since 1970."""
    return abs(now - timestamp) <= TOLERANCE_S


def verify(
    keys: Iterable[SigningKey], id: str, timestamp: int, body: bytes, signatures: bytes, *, now: float
) -> bool:
    """Tell whether one of `keys` made one of `signatures`, and `timestamp` is within 5 minutes of `now`."""
    if not in_time(timestamp, now=now):
        return False
    # Both kinds of key make the same signature each time, so a signature is checked by making it again.
    expected = sign(keys, id, timestamp, body).split(b" ")
    found = False
    for signature in signatures.split(b" "):
        for value in expected:
            found |= hmac.compare_digest(signature, value)
    return found


def _private_key(seed: bytes) -> "Ed25519PrivateKey":
    # Imported here: loading OpenSSL's bindings takes time, and few configurations have such a secret.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed)
