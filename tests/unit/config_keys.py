"""Every key of the configuration, found in its own types, with valid values that mean different things.

A key that is added is found here by itself. If its values cannot be made from its type and its default, the
tests say so, and it gets a line in `VALUES`.
"""

import copy
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from msgspec import inspect

from shared.event.expressions import Expression
from shared.providers import ADAPTERS
from shared.secrets import Secret
from shared.settings import Config
from shared.values import Duration, Months, Rate

from .sources import DEFAULTS

Tree = dict[str, Any]

_SIGNING = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_" + "QUFB" * 8)

VALUES: dict[str, list[Any]] = {
    "redis.url": ["redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/1"],
    "redis.prefix": ["hr:", "other:"],
    "ingress.host": ["127.0.0.1", "127.0.0.2"],
    "ingress.public_url": ["https://a.example.com", "https://b.example.com"],
    "ingress.trusted_proxies": [[], ["10.0.0.0/8"], ["10.0.0.0/16"]],
    "archive.url": [None, "sqlite:///archive.db", "sqlite:///other.db", "embedded"],
    "archive.dead_letters": [None, "sqlite:///a.db", "sqlite:///b.db", "sqlite:////a.db"],
    "archive.encryption_keys": [[], ["MTIz" * 10 + "MTI="], ["QUFB" * 10 + "QUE="]],
    "egress.proxy": ["http://proxy:3128", "http://other:3128", "http://user:one@proxy:3128"],
    "sources.name": ["one", "two"],
    "sources.allow_ips": [[], ["10.0.0.0/8"], ["10.0.0.0/16"]],
    "sources.username": ["one", "two"],
    "sources.event": [None, "Order Published", "Order Released"],
    "sources.share": [None, 0.1, 0.2],
    "sources.redact": [[], ["from"], ["from", "to"]],
    "sources.currency": ["GBP", "EUR"],
    "targets.name": ["one", "two"],
    "targets.url": ["https://example.com/a", "https://example.com/b", "http://example.com/a"],
    "targets.secret": [_SIGNING[0], _SIGNING[1], list(_SIGNING), list(reversed(_SIGNING))],
    "targets.events": [["*"], ["payment.*"], ["payment.*", "payout.*"]],
    "targets.sources": [["*"], ["trust*"], ["trust*", "one"]],
    "targets.filter": [None, "type == 'a'", "type == 'b'"],
    "targets.allow_private": [False, True, ["10.0.0.0/8"], ["127.0.0.0/8"]],
    "targets.ca_file": [None, "a.pem", "b.pem"],
    "targets.client_cert": [None, "a.pem", "b.pem"],
    "targets.headers": [{}, {"x-a": "1"}, {"x-a": "2"}, {"x-b": "1"}],
    "targets.give_up_on": [[], [400], [400, 422]],
    "targets.share": [None, 0.1, 0.2],
    "targets.redact": [[], ["from"], ["**.from"], ["from", "to"]],
}
"""Key (without its place in a list) → valid values, None for no such key."""

BESIDE: dict[str, Tree] = {
    "targets.auth.username": {"targets": [{"auth": {"password": "p"}}]},
    "targets.auth.password": {"targets": [{"auth": {"username": "u"}}]},
    **{f"sources.{amount}": {"sources": [{"currency": "'GBP'"}]} for amount in ("amount", "amount_minor")},
}
"""Key → what must stand beside it."""


class Key(NamedTuple):
    """A key, where it is, and values for it. `provider` is that of the source it belongs to."""

    path: str
    values: list[Any]
    provider: str | None

    @property
    def label(self) -> str:
        """Return what to call it in a test's name."""
        return f"{self.provider}: {self.path}" if self.provider else self.path

    def tree(self, value: Any) -> Tree:
        """Return a whole valid configuration with this value; files `a.pem` and `b.pem` lie beside it."""
        tree: Tree = {
            "egress": {"proxy": "http://proxy:3128"},
            "sources": [_source(self.provider or "trustshare")],
            "targets": [{"name": "one", "url": "https://example.com/a", "secret": _SIGNING[0]}],
        }
        _merge(tree, BESIDE.get(self.path, {}))
        *tables, name = self.path.split(".")
        table: Any = tree
        for each in tables:
            table = table.setdefault(each, {})
            table = table[0] if isinstance(table, list) else table
        table.pop(name, None)
        if value is not None:
            table[name] = value
        return tree


def keys() -> list[Key]:
    """Return every key there is; what every source has is there once for each provider."""
    found = [key for key in _keys(Config, "", None) if not key.path.startswith("sources")]
    for provider, adapter in sorted(ADAPTERS.items()):
        found += _keys(adapter.Settings, "sources", provider)
    return found


def toml(tree: Tree) -> str:
    """Return a tree as TOML."""
    return "".join(f"{key} = {_toml(value)}\n" for key, value in tree.items())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def _source(provider: str) -> Tree:
    return copy.deepcopy({"name": "one", "provider": provider} | DEFAULTS[provider])


def _keys(type_: Any, path: str, provider: str | None) -> Iterator[Key]:
    for field in inspect.type_info(type_).fields:  # type: ignore[attr-defined]
        key = f"{path}.{field.encode_name}".lstrip(".")
        options = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
        [kind, *more] = [option for option in options if not isinstance(option, inspect.NoneType)]
        assert not more, f"{key} may be of several types: {more}"
        if isinstance(kind, inspect.VarTupleType) and isinstance(kind.item_type, inspect.StructType):
            kind = kind.item_type
        if key == "sources.provider":
            continue  # a source of another provider is one of another type
        if key in VALUES and not _is_expression(kind):
            yield Key(key, VALUES[key], provider)
        elif isinstance(kind, inspect.StructType):
            yield from _keys(kind.cls, key, provider)
        else:
            yield Key(key, _values(key, kind, field.default), provider)


def _values(key: str, kind: inspect.Type, default: Any) -> list[Any]:
    """Make values from a type and a default."""
    if isinstance(kind, inspect.BoolType):
        return [False, True]
    if isinstance(kind, inspect.LiteralType):
        return list(kind.values)
    if isinstance(kind, inspect.IntType):
        return [default, default + 1]
    if isinstance(kind, inspect.FloatType):
        return [default, default * 0.9]
    if isinstance(kind, inspect.VarTupleType) and kind.item_type == inspect.CustomType(Secret):
        return (
            [[_SIGNING[0]], [_SIGNING[1]], list(_SIGNING)] if "secrets" in key else [["a"], ["b"], ["a", "b"]]
        )
    if isinstance(kind, inspect.CustomType):
        if kind.cls is Secret:
            return ["one", "two"]
        if issubclass(kind.cls, Duration):
            seconds = default or 60
            return [f"{seconds:f}s", f"{seconds * 1.1:f}s"]
        if kind.cls is Months:
            return ["18mo", "7y"]
        if kind.cls is Rate:
            return ["50/s", "51/s"]
        if _is_expression(kind):
            return ["body.a", "body.b"]
    raise AssertionError(f"{key} is a new key: give valid values that differ for it in {__name__}.VALUES")


def _is_expression(kind: inspect.Type) -> bool:
    return isinstance(kind, inspect.CustomType) and issubclass(kind.cls, Expression)


def _merge(tree: Any, more: Any) -> None:
    """Merge `more` into `tree`, where lists hold one table."""
    for key, value in more.items():
        if isinstance(value, list):
            _merge(tree[key][0], value[0])
        elif isinstance(value, dict):
            _merge(tree.setdefault(key, {}), value)
        else:
            tree[key] = value
