"""Encrypts what the archive keeps of payloads, if `archive.encryption_keys` is given: AES-GCM with 256 bits.

What is encrypted is bound to its name (an event's id): it opens under no other. Beside it stands the id of
its key; '' there says that it is not encrypted.
"""

from base64 import b64decode
from binascii import Error
from collections.abc import Sequence
from hashlib import sha256
from os import urandom

from shared.errors import ArchiveSealed
from shared.secrets import Secret

KEY_BYTES, NONCE_BYTES = 32, 12


def key_of(secret: Secret) -> bytes:
    """Return the key that a secret spells. Raises: ValueError if it spells none."""
    try:
        key = b64decode(secret.reveal(), validate=True)
    except Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"must be {KEY_BYTES} bytes in base64: make them with `openssl rand -base64 32`")
    return key


class Sealer:
    """Encrypts with the newest of some keys, and decrypts with any. Without keys it encrypts nothing."""

    def __init__(self, secrets: Sequence[Secret] = ()) -> None:
        """`secrets` are as `key_of` reads them, the newest first."""
        keys = [key_of(secret) for secret in secrets]
        self._keys = {sha256(key).hexdigest()[:8]: key for key in keys}
        self.newest = next(iter(self._keys), "")
        """The id of the key that encrypts, '' if nothing is encrypted."""

    def seal(self, name: str, value: bytes) -> tuple[str, bytes]:
        """Return the id of the key, and a value as it is kept."""
        if not self.newest:
            return "", value
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = urandom(NONCE_BYTES)
        return self.newest, nonce + AESGCM(self._keys[self.newest]).encrypt(nonce, value, name.encode())

    def open(self, name: str, key_id: str, kept: bytes) -> bytes:
        """Return a value from what `seal` returned for it. Raises: ArchiveSealed."""
        if not key_id:
            return kept
        if key_id not in self._keys:
            raise ArchiveSealed(
                f"{name} is encrypted with the key {key_id}, which archive.encryption_keys does not have"
            )
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            return AESGCM(self._keys[key_id]).decrypt(kept[:NONCE_BYTES], kept[NONCE_BYTES:], name.encode())
        except (InvalidTag, ValueError):
            raise ArchiveSealed(
                f"{name} is not what was encrypted with the key {key_id}: it is damaged"
            ) from None
