"""TLS to Redis: the options of a `rediss://` URL, with redis-py's names and meanings."""

import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

OFF = ("0", "F", "FALSE", "N", "NO")


def tls_options(query: str) -> dict[str, Any]:
    """Return the options in the query of a `rediss://` URL, as redis-py and Kombu take them.

    Without options the certificate and the host's name are checked. Raises: ValueError, with the option's
    name.
    """
    options: dict[str, Any] = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    for name, text in parse_qsl(query, keep_blank_values=True):
        read = _OPTIONS.get(name)
        if read is None:
            raise ValueError(f"takes no option {name!r}, only {', '.join(_OPTIONS)}")
        try:
            options[name] = read(text)
        except (KeyError, ValueError):
            raise ValueError(f"{name} cannot be {text!r}") from None
    return options


def tls_context(options: dict[str, Any]) -> ssl.SSLContext:
    """Return a TLS context for asyncio from such options. Reads files. Raises: OSError."""
    context = ssl.create_default_context()
    context.check_hostname = options["ssl_check_hostname"] and options["ssl_cert_reqs"] != "none"
    context.verify_mode = ssl.VerifyMode[f"CERT_{options['ssl_cert_reqs'].upper()}"]
    for flag in options.get("ssl_include_verify_flags", []):
        context.verify_flags |= flag
    for flag in options.get("ssl_exclude_verify_flags", []):
        context.verify_flags &= ~flag
    trusted = [options.get(f"ssl_ca_{name}") for name in ("certs", "path", "data")]
    if any(trusted):
        context.load_verify_locations(*trusted)
    if "ssl_certfile" in options:
        context.load_cert_chain(
            options["ssl_certfile"], options.get("ssl_keyfile"), options.get("ssl_password")
        )
    if "ssl_min_version" in options:
        context.minimum_version = options["ssl_min_version"]
    if "ssl_ciphers" in options:
        context.set_ciphers(options["ssl_ciphers"])
    return context


def _requirement(text: str) -> str:
    if text not in ("required", "optional", "none"):
        raise ValueError(text)
    return text


def _switch(text: str) -> bool:
    return text.upper() not in OFF


def _version(text: str) -> ssl.TLSVersion:
    return ssl.TLSVersion(int(text)) if text.isdecimal() else ssl.TLSVersion[text]


def _flags(text: str) -> list[ssl.VerifyFlags]:
    return [ssl.VerifyFlags[flag.strip()] for flag in text.strip("[]").split(",")]


_OPTIONS: dict[str, Callable[[str], Any]] = {
    "ssl_cert_reqs": _requirement,
    "ssl_check_hostname": _switch,
    "ssl_ca_certs": str,
    "ssl_ca_path": str,
    "ssl_ca_data": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_password": str,
    "ssl_min_version": _version,
    "ssl_ciphers": str,
    "ssl_include_verify_flags": _flags,
    "ssl_exclude_verify_flags": _flags,
}
