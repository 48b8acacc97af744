"""Checks a configuration as a whole before anything starts, and gives it types. A mistake names its key."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from shared.archive.sealing import key_of
from shared.config.errors import from_msgspec, one_of
from shared.delivery.headers import own_headers
from shared.delivery.outgoing import endpoint_of, proxy_of
from shared.delivery.signing import signing_key
from shared.errors import ConfigError
from shared.event.ids import source_tag
from shared.http.tls import check_ca_file, check_client_cert
from shared.process.folder import data_folder
from shared.providers import ADAPTERS
from shared.routing.matching import Filter
from shared.settings import EMBEDDED, ArchiveSettings, Config, IngressSettings, SourceSettings, Target
from shared.store.address import parse_address
from shared.values import decode_value, parse_network

SQLITE, POSTGRESQL = "sqlite:///", "postgresql+psycopg://"

T = TypeVar("T")


def parse_config(tree: dict[str, Any], folder: Path = Path()) -> Config:
    """Check a configuration tree (as TOML gives it, variables filled in) and type it.

    Files that it names lie relative to `folder`, the configuration's own.

    Raises: ConfigError naming the path of the first key that is wrong.
    """
    tree = dict(tree)
    sources = tuple(
        _parse_source(entry, f"sources[{i}]")
        for i, entry in enumerate(_tables(tree.pop("sources", []), "sources"))
    )
    config = _convert(tree, Config, "")
    targets = tuple(_with_files(target, folder) for target in config.targets)
    archive = _archive(config.archive, folder)
    config = msgspec.structs.replace(config, sources=sources, targets=targets, archive=archive)
    _check(config)
    return config


def _with_files(target: Target, folder: Path) -> Target:
    """Return a target with the paths of its files made absolute."""
    ca_file, client_cert = (
        str(folder / file) if file else file for file in (target.ca_file, target.client_cert)
    )
    return msgspec.structs.replace(target, ca_file=ca_file, client_cert=client_cert)


def _archive(given: ArchiveSettings, folder: Path) -> ArchiveSettings:
    """Return the settings with complete URLs: paths are absolute, and what is not given is in the data
    folder.

    Raises: ConfigError.
    """
    data = data_folder(folder / "headrace.toml")
    dead_letters = given.dead_letters or f"{SQLITE}{data / 'dead-letters.db'}"
    dead_letters = _file_url(dead_letters, folder, "archive.dead_letters", "sqlite:///dead-letters.db")
    url = f"{SQLITE}{data / 'archive.db'}" if given.url == EMBEDDED else given.url
    if url and not url.startswith(POSTGRESQL):
        wanted = f'sqlite:///archive.db, {POSTGRESQL}USER@HOST/DATABASE, or "{EMBEDDED}"'
        url = _file_url(url, folder, "archive.url", wanted)
    elif url and find_spec("psycopg") is None:
        raise ConfigError(
            "archive.url", "needs the driver for PostgreSQL: pip install 'headrace[postgresql]'"
        )
    for i, secret in enumerate(given.encryption_keys):
        _value(key_of, secret, f"archive.encryption_keys[{i}]")
    if url == dead_letters:
        raise ConfigError("archive.url", "is the file of dead letters: give each its own")
    return msgspec.structs.replace(given, url=url, dead_letters=dead_letters)


def _file_url(url: str, folder: Path, key: str, wanted: str) -> str:
    path = url.removeprefix(SQLITE)
    if path == url or not path or path.endswith("/") or set(path) & set("?#"):
        raise ConfigError(key, f"must be the URL of a file: {wanted}")
    return f"{SQLITE}{(folder / path).absolute()}"


def _tables(value: object, path: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ConfigError(path, f"must be a list of tables: write [[{path}]]")
    return value


def _parse_source(entry: dict[str, Any], path: str) -> SourceSettings:
    provider = entry.get("provider")
    if not isinstance(provider, str):
        raise ConfigError(f"{path}.provider", f"must be one of {', '.join(sorted(ADAPTERS))}")
    adapter = ADAPTERS.get(provider)
    if adapter is None:
        raise ConfigError(f"{path}.provider", one_of(provider, list(ADAPTERS)))
    return _convert(entry, adapter.Settings, path)


def _convert(tree: object, type_: type[T], path: str) -> T:
    try:
        return msgspec.convert(tree, type=type_, dec_hook=decode_value)
    except msgspec.ValidationError as error:
        raise from_msgspec(str(error), type_, path) from None


def _check(config: Config) -> None:
    if config.redis.url != EMBEDDED:
        _value(lambda url: parse_address(url, config.redis.prefix), config.redis.url, "redis.url")
    _check_ingress(config.ingress)
    _value(proxy_of, config, "egress.proxy")
    if config.egress.proxy_resolves and config.egress.proxy is None:
        raise ConfigError("egress.proxy_resolves", "says nothing without egress.proxy")
    _check_names(config.sources, "sources")
    _check_names(config.targets, "targets")
    tags: dict[str, str] = {}
    for i, source in enumerate(config.sources):
        _check_source(source, f"sources[{i}]")
        other = tags.setdefault(source_tag(source.name), source.name)
        if other != source.name:
            raise ConfigError(
                f"sources[{i}].name", f"cannot stand beside {other!r}: their event ids could meet"
            )
    for i, target in enumerate(config.targets):
        _check_target(target, config, f"targets[{i}]")


def _check_ingress(ingress: IngressSettings) -> None:
    if ingress.max_inbox_bytes < ingress.max_body_bytes:
        raise ConfigError("ingress.max_inbox_bytes", "must not be smaller than ingress.max_body_bytes")
    for i, network in enumerate(ingress.trusted_proxies):
        _value(parse_network, network, f"ingress.trusted_proxies[{i}]")
    if ingress.public_url is not None:
        url = urlsplit(ingress.public_url)
        if url.scheme not in ("http", "https") or not url.netloc or url.query or url.fragment:
            raise ConfigError("ingress.public_url", "must be an http(s) URL without query or fragment")


def _check_names(entries: Sequence[SourceSettings | Target], path: str) -> None:
    seen: dict[str, int] = {}
    for i, entry in enumerate(entries):
        first = seen.setdefault(entry.name, i)
        if first != i:
            raise ConfigError(f"{path}[{i}].name", f"{entry.name!r} is the name of {path}[{first}] already")


def _check_source(source: SourceSettings, path: str) -> None:
    for i, network in enumerate(source.allow_ips):
        _value(parse_network, network, f"{path}.allow_ips[{i}]")
    # The credentials' fields belong to the provider, but an empty list of them never verifies anything.
    for field in msgspec.structs.fields(source):
        value = getattr(source, field.name)
        if field.required and isinstance(value, tuple | str) and not value:
            raise ConfigError(f"{path}.{field.name}", "is empty")


def _check_target(target: Target, config: Config, path: str) -> None:
    ingress = config.ingress
    for i, secret in enumerate(target.secret):
        _value(signing_key, secret, f"{path}.secret" + (f"[{i}]" if len(target.secret) > 1 else ""))
    endpoint = _value(partial(endpoint_of, config), target, f"{path}.url")
    _check_files(target, path)
    try:
        own_headers(target.headers, target.auth)
    except ConfigError as error:
        raise ConfigError(f"{path}.{error.path}", error.problem) from None
    own = [(ingress.host, ingress.port)]
    if ingress.public_url is not None:
        public = urlsplit(ingress.public_url)
        own.append((public.hostname or "", public.port or (443 if public.scheme == "https" else 80)))
    loopback = ("127.0.0.1", "::1", "localhost")
    if ingress.host in (*loopback, "0.0.0.0", "::"):  # noqa: S104
        own += [(host, ingress.port) for host in loopback]
    if (endpoint.host, endpoint.port) in own:
        raise ConfigError(f"{path}.url", "points at this gateway itself: events would go round for ever")
    if target.filter is not None:
        _value(Filter, target.filter, f"{path}.filter")
    for key, patterns in (("events", target.events), ("sources", target.sources)):
        if not patterns or not all(patterns):
            raise ConfigError(f"{path}.{key}", "is empty: nothing would ever match")
    if target.breaker.max < target.breaker.initial:
        raise ConfigError(f"{path}.breaker.max", "must not be shorter than breaker.initial")
    retry = target.retry
    if retry.max < retry.initial:
        raise ConfigError(f"{path}.retry.max", "must not be shorter than retry.initial")


def _check_files(target: Target, path: str) -> None:
    for key, file, check in (
        ("ca_file", target.ca_file, check_ca_file),
        ("client_cert", target.client_cert, check_client_cert),
    ):
        if file is None:
            continue
        if not file or not target.url.lower().startswith("https://"):
            raise ConfigError(f"{path}.{key}", "is empty" if not file else "needs an https:// url")
        _value(check, file, f"{path}.{key}")


def _value(parse: Callable[[Any], T], value: object, path: str) -> T:
    try:
        return parse(value)
    except ValueError as error:
        raise ConfigError(path, str(error)) from None
