"""Standard Webhooks signatures: made for every delivery, checked by the demo receiver.

Source: the Standard Webhooks specification. The signed content is `<id>.<timestamp>.<body>`; the header
`webhook-signature` holds one `v1,<base64>` a secret, separated by spaces.
"""

import binascii
import hmac
import secrets as randomness
from base64 import b64decode, b64encode
from collections.abc import Iterable
from hashlib import sha256

from shared.secrets import Secret

PREFIX = b"whsec_"
TOLERANCE_S = 300


def signing_key(secret: Secret) -> bytes:
    """Return the key bytes of a `whsec_…` secret.

    Raises: ValueError where the prefix or the base64 is wrong, or the key is not 24 to 64 bytes.
    """
    text = secret.reveal()
    if not text.startswith(PREFIX):
        raise ValueError("must start with whsec_ (make one with `headrace secret`)")
    try:
        key = b64decode(text[len(PREFIX) :], validate=True)
    except binascii.Error:
        raise ValueError("is not base64 after whsec_") from None
    if not 24 <= len(key) <= 64:
        raise ValueError(f"must hold 24 to 64 bytes, not {len(key)}")
    return key


def new_secret() -> str:
    """Return a fresh `whsec_…` of 32 random bytes."""
    return (PREFIX + b64encode(randomness.token_bytes(32))).decode()


def sign(keys: Iterable[bytes], id: str, timestamp: int, body: bytes) -> bytes:
    """Return the value of `webhook-signature`: all keys sign, in their order."""
    content = f"{id}.{timestamp}.".encode() + body
    return b" ".join(b"v1," + b64encode(hmac.digest(key, content, sha256)) for key in keys)


def verify(
    keys: Iterable[bytes], id: str, timestamp: int, body: bytes, signatures: bytes, *, now: float
) -> bool:
    """Tell whether one of `signatures` is by one of `keys`, and `timestamp` within five minutes of `now`."""
    if abs(now - timestamp) > TOLERANCE_S:
        return False
    expected = sign(keys, id, timestamp, body).split(b" ")
    found = False
    for signature in signatures.split(b" "):
        for value in expected:
            found |= hmac.compare_digest(signature, value)
    return found
