"""TLS for deliveries: the trusted certificates, and our own. Certificates are always verified."""

import os
import ssl
from typing import NoReturn

_Files = tuple[str | None, str | None]
_Stamp = tuple[tuple[int, int, int] | None, ...]


class Contexts:
    """TLS contexts, one for each pair of files.

    A file that changed is read again, as certificates are renewed.
    """

    def __init__(self) -> None:
        self._known: dict[_Files, tuple[_Stamp, ssl.SSLContext]] = {}

    def get(self, ca_file: str | None, client_cert: str | None) -> ssl.SSLContext:
        """Return the context for a CA file and a client certificate. Raises: ValueError."""
        files = (ca_file, client_cert)
        stamp = tuple(map(_stamp, files))
        known = self._known.get(files)
        if known is not None and known[0] == stamp:
            return known[1]
        context = make_context(ca_file, client_cert)
        self._known[files] = (stamp, context)
        return context


def make_context(ca_file: str | None = None, client_cert: str | None = None) -> ssl.SSLContext:
    """Return a context that trusts the system's store and, beside it, a PEM file of CA certificates.

    `client_cert` is a PEM file with a certificate, its chain and its key, which is not encrypted.

    Raises: ValueError if a file cannot be used. The message holds OpenSSL's reason, and nothing of the file's
    content.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is not None:
        _trust(context, ca_file)
    if client_cert is not None:
        _show(context, client_cert)
    return context


# Checking does not make a context: reading the system's store takes 40 ms, for each of many targets.


def check_ca_file(file: str) -> None:
    """Check that a CA file can be used. Raises: ValueError."""
    _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), file)


def check_client_cert(file: str) -> None:
    """Check that a client certificate can be used. Raises: ValueError."""
    _show(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), file)


def _trust(context: ssl.SSLContext, ca_file: str) -> None:
    try:
        context.load_verify_locations(ca_file)
    except OSError as error:  # SSLError is one
        raise ValueError(f"the file {ca_file} cannot be used: {_reason(error)}") from None


def _show(context: ssl.SSLContext, client_cert: str) -> None:
    try:
        # Without a password from us, OpenSSL would ask for one at the terminal.
        context.load_cert_chain(client_cert, password=_encrypted)
    except OSError as error:
        raise ValueError(f"the file {client_cert} cannot be used: {_reason(error)}") from None


def tls_reason(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason, which holds names and no keys."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate was not accepted: {error.verify_message}"
    return (error.reason or "the TLS connection failed").lower().replace("_", " ")


def _encrypted() -> NoReturn:
    raise ValueError("the key is encrypted: write it without a passphrase")


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return tls_reason(error)
    return error.strerror or type(error).__name__


def _stamp(file: str | None) -> tuple[int, int, int] | None:
    try:
        stat = os.stat(file) if file is not None else None
    except OSError:
        return None  # the read that follows will say why
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino) if stat is not None else None
