"""CEL expressions of the configuration: compiled once, when it is read; a mistake is an error then.

The caller says which names an expression may use, and what its result means. The library is imported only if
there is an expression: it loads its own command line, too.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

from shared.event.jsonbody import Json, Number

if TYPE_CHECKING:
    import cel

_PLACE = re.compile(r"<input>:(\d+):(\d+): (.*)")
_UNDEFINED = re.compile(r"Undefined variable or function: '([^']*)'")
_MACRO_VARIABLE = re.compile(r"\.\s*(?:all|exists|exists_one|filter|map)\s*\(\s*([A-Za-z_]\w*)\s*,")
_TYPES = frozenset(
    (
        *("bool", "bytes", "double", "duration", "int", "list", "map", "null_type", "optional", "string"),
        *("timestamp", "type", "uint"),
    )
)
_INT64 = range(-(2**63), 2**63)


def compile_expression(text: str, shape: Mapping[str, Any]) -> Any:
    """Compile a CEL expression to a program. `shape` holds the names it may use, each with an empty value.

    Raises: ValueError naming line and column if it does not compile, or the name it does not know.
    """
    import cel

    try:
        program = cel.compile(text)
    except ValueError as error:
        place = _PLACE.search(str(error))
        raise ValueError(
            f"does not compile: line {place[1]}, column {place[2]}: {place[3]}"
            if place
            else "does not compile"
        ) from None
    known = {*shape, *_TYPES, *_MACRO_VARIABLE.findall(text)}
    unknown = next((name for name in program.variables() if name not in known), None)
    if unknown is None:
        unknown = _unknown_function(program, shape)
    if unknown is not None:
        raise ValueError(f"knows no {unknown!r}: it may use {', '.join(shape)}")
    return program


def _unknown_function(program: Any, shape: Mapping[str, Any]) -> str | None:
    """Return the name of a function that does not exist, if evaluating with empty values finds one."""
    try:
        program.execute(dict(shape))
    except RuntimeError as error:
        return undefined_name(error)
    except Exception:  # the values are empty: a missing field is no mistake yet
        return None
    return None


def undefined_name(error: Exception) -> str | None:
    """Return the name that a program did not find when it ran, if that is what `error` says."""
    found = _UNDEFINED.search(str(error))
    return found[1] if found else None


class Expression:
    """A configured expression that finds a value. A subclass says which names it may use."""

    names: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, text: str) -> None:
        self.text = text
        self._program = compile_expression(text, self.names)

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read an expression. Raises: ValueError."""
        if not isinstance(value, str) or not value.strip():
            raise ValueError("must be a CEL expression, written as a string")
        return cls(value)

    def find(self, context: "cel.Context") -> object:
        """Evaluate the expression over `context`. Returns None if a field that it names is absent.

        Any other failure gives None, too: the content of a body is not a mistake in the expression.
        """
        try:
            value: object = self._program.execute(context)
        except Exception:
            return None
        return value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and (type(self), self.text) == (type(other), other.text)

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"


_Parts: TypeAlias = "dict[str, _Parts] | None"


class Scope:
    """The parts of JSON values that some expressions name, converted once for all of them.

    CEL has 64-bit integers and floats. A number that would have to become a float (it has a fraction, an
    exponent, or too many digits) is passed as its text, digit for digit: an amount stays exact, and
    arithmetic on it fails instead of rounding. Of a large body, only the named parts are converted.
    """

    def __init__(self, expressions: Iterable[Expression]) -> None:
        self._parts: dict[str, _Parts] = {}
        for expression in expressions:
            for name in expression.names:
                for keys in _paths(name, expression.text):
                    _widen(self._parts, [name, *keys])

    def context(self, **values: Json) -> "cel.Context":
        """Return the context for evaluating any of the expressions."""
        import cel

        return cel.Context(
            variables={name: _named(value, self._parts.get(name, {})) for name, value in values.items()}
        )


def _paths(name: str, text: str) -> Iterator[list[str]]:
    """Return the path of keys that follows each mention of `name`. The name of a function is not a key."""
    for match in re.finditer(rf"\b{name}\b((?:\.[A-Za-z_]\w*(?!\w*\s*\())*)", text):
        yield match[1].split(".")[1:]


def _widen(parts: dict[str, "_Parts"], keys: Sequence[str]) -> None:
    first, *rest = keys
    if not rest:
        parts[first] = None
        return
    inner = parts.setdefault(first, {})
    if inner is not None:
        _widen(inner, rest)


def _named(value: Json, parts: "_Parts") -> Any:
    """Return the named parts of a value; all of it if `parts` is None."""
    if parts is None:
        return _visible(value)
    if isinstance(value, dict):
        return {key: _named(value[key], inner) for key, inner in parts.items() if key in value}
    # A list has no keys, so nothing in it can be named: an empty one is enough.
    return [] if isinstance(value, list) else _visible(value)


def _visible(value: Json) -> Any:
    if isinstance(value, dict):
        return {key: _visible(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_visible(item) for item in value]
    if isinstance(value, Number):
        return value.text
    if isinstance(value, int) and not isinstance(value, bool) and value not in _INT64:
        return str(value)
    return value
