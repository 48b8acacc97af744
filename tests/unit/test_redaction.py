"""Redaction: what is named is gone from what is sent, wherever it stands there; all else is as it was."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.event.ids import event_id
from shared.event.record import EventRecord
from shared.event.redaction import Redaction
from shared.values import MemberPath

ID = event_id("trustshare", "1767225600123-0")


def bare(body: bytes, data: bytes = b'{"parties":{},"details":{}}') -> EventRecord:
    return EventRecord(ID, b"{}", data, body)


def cut(body: str, *paths: str) -> tuple[str, list[str]]:
    """Return what is left of a body, and what `data.redacted` says."""
    record = Redaction(paths, {})(bare(body.encode()))
    return record.body.decode(), msgspec.json.decode(record.data).get("redacted", [])


@pytest.mark.parametrize(
    ("body", "paths", "left"),
    [
        ('{"a":1}', ["a"], "{}"),
        ('{"a":1,"b":2,"c":3}', ["a"], '{"b":2,"c":3}'),
        ('{"a":1,"b":2,"c":3}', ["b"], '{"a":1,"c":3}'),
        ('{"a":1,"b":2,"c":3}', ["c"], '{"a":1,"b":2}'),
        ('{"a":1,"b":2,"c":3}', ["a", "b"], '{"c":3}'),
        ('{"a":1,"b":2,"c":3}', ["b", "c"], '{"a":1}'),
        ('{"a":1,"b":2,"c":3}', ["a", "c"], '{"b":2}'),
        ('{"a":1,"b":2,"c":3}', ["a", "b", "c"], "{}"),
        # how the rest is written stays: white space, numbers, escapes, members of one name
        (' { "x" : 1.10 ,\n "a":2, "y":[1e2, -0, 12345678901234567890123] } ', ["a"],
         ' { "x" : 1.10 , "y":[1e2, -0, 12345678901234567890123] } '),
        ('{"x":"\\/\\u00e9","x":2,"a":1}', ["a"], '{"x":"\\/\\u00e9","x":2}'),
        # values of every kind
        ('{"a":{"b":[1,{"c":"}"}]},"d":[]}', ["a"], '{"d":[]}'),
        ('{"a":"],}\\"{","d":"{"}', ["a"], '{"d":"{"}'),
        ('{"a":null,"b":true}', ["a"], '{"b":true}'),
        # each of several members of one name
        ('{"a":1,"b":2,"a":3}', ["a"], '{"b":2}'),
        ('{"a":{"b":1},"a":{"c":2},"a":[{"b":3}]}', ["a.b"], '{"a":{},"a":{"c":2},"a":[{}]}'),
        # a name is what it means, however it is written
        ('{"\\u0061":1,"b":2}', ["a"], '{"b":2}'),
        ('{"\\u00e9":1,"é":2,"e":3}', ["é"], '{"e":3}'),
        # lists, nested ones too, and the outermost value as one
        ('[{"a":1},[{"a":2,"b":3}],4]', ["a"], '[{},[{"b":3}],4]'),
        ('{"a":[{"b":1,"c":2},{"b":3}]}', ["a.b"], '{"a":[{"c":2},{}]}'),
        # a path begins at the top, unless it says otherwise
        ('{"a":1,"b":{"a":2}}', ["b.a"], '{"a":1,"b":{}}'),
        ('{"a":1,"b":{"a":2,"c":[{"a":3}]}}', ["**.a"], '{"b":{"c":[{}]}}'),
        ('{"x":{"a":{"b":1,"c":2}},"b":3}', ["**.a.b"], '{"x":{"a":{"c":2}},"b":3}'),
        ('{"a":{"a":{"b":1}}}', ["**.a.b"], '{"a":{"a":{}}}'),
        # JSON in a string, and that in a string again
        ('{"a":"{\\"b\\":1,\\"c\\":1.10}"}', ["a.b"], '{"a":"{\\"c\\":1.10}"}'),
        ('"[{\\"a\\":1}]"', ["a"], '"[{}]"'),
        (json.dumps(json.dumps(json.dumps({"a": 1}))), ["a"], json.dumps(json.dumps("{}"))),
        ('{"a":"\\n{\\"b\\":1}"}', ["**.b"], '{"a":"\\n{}"}'),
    ],
)  # fmt: skip
def test_members_are_cut_and_all_else_stays_byte_for_byte(body: str, paths: list[str], left: str) -> None:
    assert cut(body, *paths) == (left, paths)


@pytest.mark.parametrize(
    "body",
    [
        '{"b":1}',
        '{"x":{"a":1}}',
        '{"A":1}',
        '{"b":"a"}',
        '{"b":"{\\"a\\":1}"}',
        '"{\\"a\\":1"',
        '"a"',
        "1",
        "[]",
        " [1, 2 ] ",
        '{"b":"' + "[" * 600 + '"}',
    ],
)
def test_a_path_that_finds_nothing_changes_nothing(body: str) -> None:
    record = bare(body.encode())
    assert Redaction(["a", "a.b", "**.z"], {})(record) is record


def test_what_is_listed_is_what_was_named_in_that_order_and_found() -> None:
    body = '{"c":1,"a":2,"b":{"x":3}}'
    assert cut(body, "a", "nothing", "**.x", "c", "a")[1] == ["a", "**.x", "c"]
    assert cut(body, "b", "b.x")[1] == ["b"], "it went with the other"
    assert cut(body, "b.x.y")[1] == []


NAMES = st.sampled_from(["a", "b", "c", "é", "buyer"])
PATHS = st.builds(
    lambda anywhere, names: anywhere + ".".join(names),
    st.sampled_from(["", "**."]),
    st.lists(NAMES, min_size=1, max_size=3),
)
# A tree keeps its members as pairs, so that one name may stand there twice; its leaves are tokens of JSON.
TREES = st.recursive(
    st.sampled_from(
        ["1.10", "1e2", "-0", "12345678901234567890123", "true", "null", '"a"', '"\\u0061{"', '""']
    ),
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(NAMES, inner), max_size=4).map(tuple),
    max_leaves=12,
)


def written(tree: Any, random: Random) -> str:
    """Write a tree as JSON, with white space and escapes of any kind, and now and then as JSON in a string."""

    def space() -> str:
        return random.choice(["", "", " ", "\n\t"])

    if isinstance(tree, str):
        return tree
    if isinstance(tree, list):
        text = (
            "["
            + space()
            + f"{space()},{space()}".join(written(item, random) for item in tree)
            + space()
            + "]"
        )
    else:
        pairs = (
            json.dumps(name, ensure_ascii=random.random() < 0.5) if random.random() < 0.8 else escaped(name)
            for name, _ in tree
        )
        values = (written(value, random) for _, value in tree)
        members = (f"{name}{space()}:{space()}{value}" for name, value in zip(pairs, values, strict=True))
        text = "{" + space() + f"{space()},{space()}".join(members) + space() + "}"
    return json.dumps(space() + text) if random.random() < 0.1 else text


def escaped(name: str) -> str:
    return '"' + "".join(f"\\u{ord(char):04x}" for char in name) + '"'


def parsed(text: str) -> Any:
    """Read JSON as a tree, numbers as they are written; JSON in a string is read, too."""
    read = json.loads(text, object_pairs_hook=tuple, parse_int=Token, parse_float=Token)
    return opened(read)


class Token(str):
    """A number as it is written."""


def opened(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple((name, opened(item)) for name, item in value)
    if isinstance(value, list):
        return [opened(item) for item in value]
    if isinstance(value, str) and not isinstance(value, Token) and value.strip()[:1] in ("{", "[", '"'):
        try:
            return ("JSON in a string", parsed(value))
        except ValueError:
            return value
    return value


def pruned(tree: Any, trail: tuple[str, ...], paths: list[MemberPath]) -> Any:
    """Return a tree without what is at the paths: the plain way, by which the other is judged."""
    if isinstance(tree, list):
        return [pruned(item, trail, paths) for item in tree]
    if isinstance(tree, tuple) and tree[:1] == ("JSON in a string",):
        return (tree[0], pruned(tree[1], trail, paths))
    if isinstance(tree, tuple):
        return tuple(
            (name, pruned(item, (*trail, name), paths))
            for name, item in tree
            if not any(leads(path, (*trail, name)) for path in paths)
        )
    return tree


def leads(path: MemberPath, trail: tuple[str, ...]) -> bool:
    return path.names == (trail[-len(path.names) :] if path.anywhere else trail)


@given(tree=TREES, paths=st.lists(PATHS, min_size=1, max_size=3), random=st.randoms(use_true_random=False))
def test_of_any_json_just_what_is_named_is_gone(tree: Any, paths: list[str], random: Random) -> None:
    body = written(tree, random)
    left, listed = cut(body, *paths)
    expected = pruned(parsed(body), (), [MemberPath(path) for path in paths])
    assert parsed(left) == expected
    assert (listed == []) == (left == body) == (expected == parsed(body))
    assert set(listed) <= set(paths)
    assert cut(left, *paths) == (left, []), "nothing is left to take"


@given(tree=TREES, path=PATHS, place=PATHS, random=st.randoms(use_true_random=False))
def test_a_field_goes_just_if_something_that_it_is_read_from_goes(
    tree: Any, path: str, place: str, random: Random
) -> None:
    body = written(tree, random)
    record = bare(body.encode(), b'{"parties":{},"details":{"x":1,"y":2}}')
    redacted = Redaction([path], {"details.x": [place]})(record)

    def held(text: str) -> int:
        return sum(leads(MemberPath(place), way) for way in ways(parsed(text), ()))

    lost = held(body) > held(redacted.body.decode())
    assert msgspec.json.decode(redacted.data)["details"] == ({"y": 2} if lost else {"x": 1, "y": 2})


def ways(tree: Any, trail: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Return the names that lead to each member of a tree."""
    if isinstance(tree, list):
        for item in tree:
            yield from ways(item, trail)
    elif isinstance(tree, tuple) and tree[:1] == ("JSON in a string",):
        yield from ways(tree[1], trail)
    elif isinstance(tree, tuple):
        for name, item in tree:
            yield (*trail, name)
            yield from ways(item, (*trail, name))


@pytest.mark.parametrize(
    "text",
    ["", ".", "a.", ".a", "a..b", " a", "a ", "a. b", "0", "a.0", "a.0.b", "a[0]", "a[]", "*", "a.*", "**",
     "**.", "**.*", "a.**.b", "**.**.a", "a*", "$", "$.a", "/a/b"],
)  # fmt: skip
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(ValueError, match="is not a path"):
        MemberPath(text)


@pytest.mark.parametrize("text", ["a", "a.b", "**.a", "**.a.b", "a1", "1a", "a b.c-d", "é", "@id", "a$"])
def test_what_is_a_path(text: str) -> None:
    assert MemberPath.parse(text) == text
