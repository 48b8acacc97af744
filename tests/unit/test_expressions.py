"""Expressions: what they see of a body is exact, and no more of it than they name."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.event import jsonbody
from shared.event.expressions import Expression, Scope


class Of(Expression):
    names = {"body": {}, "id": ""}  # noqa: RUF012


def find(text: str, body: bytes, *beside: str) -> object:
    """Return what an expression finds where the others stand beside it."""
    expression = Of(text)
    return expression.find(
        Scope([expression, *map(Of, beside)]).context(body=jsonbody.read(body), id="msg_1")
    )


BODY = b"""{"type":"a.b","n":5,"d":1049.10,"e":1e400,"big":123456789012345678901234567890,"t":true,"none":null,
"list":[{"k":"x","v":1.50},{"k":"y","v":2}],"in":{"ner":{"s":"deep"}},"odd-key":"odd","body":{"type":"inner"}}"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("body.type", "a.b"),
        ("body.n", 5),
        ("body.d", "1049.10"),
        ("body.e", "1e400"),
        ("body.big", "123456789012345678901234567890"),
        ("body.n * 2", 10),
        ("body.d * 2", None),
        ("body.t", True),
        ("body.none", None),
        ("body.missing", None),
        ("body.missing.deeper", None),
        ("body.type.deeper", None),
        ("body.list.deeper", None),
        ("body.list[1].v", 2),
        ("body.list[0].v", "1.50"),
        ("body.list[7].v", None),
        ("body.list.filter(item, item.k == 'y')[0].v", 2),
        ("body['in'].ner.s", "deep"),
        ("body['odd-key']", "odd"),
        ("body[body.type == 'a.b' ? 'n' : 'd']", 5),
        ("'n' in body ? body.n : 0", 5),
        ("has(body.list) && size(body.list) == 2", True),
        ("has(body.missing) ? body.missing : id", "msg_1"),
        ("body.exists(key, key == 'odd-key')", True),
        ("size(body)", 11),
        ("body.type.startsWith('a')", True),
        ("body.type.startsWith ('a')", True),
        ("{'a.b': 'mapped'}[body.type]", "mapped"),
        ("body.body.type", "inner"),
        ("body . n", 5),
        ("body\n.n", 5),
        ("body.n / 0", None),
    ],
)
def test_what_an_expression_finds(text: str, found: object) -> None:
    assert find(text, BODY) == found
    assert find(text, BODY, "body.type", "body.list", "body.n") == found
    assert find(text, BODY, "body") == found


keys = st.sampled_from(["a", "b", "c"])
any_json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)
TEXTS = ["body.a", "body.a.b", "body.a.b.c", "body.b[0]", "has(body.a.b)", "body.c.size()", "size(body.a)"]
TEXTS += ["body.a == body.b", "body.b.map(x, x.a)", "body.a.b == null ? body.c : body.b.c"]


@given(any_json, st.lists(st.sampled_from(TEXTS), min_size=1, max_size=4))
def test_what_is_not_named_makes_no_difference(body: Any, texts: list[str]) -> None:
    """Seen in part or as a whole, a body gives every expression the same."""
    expressions = [Of(text) for text in texts]
    part, whole = Scope(expressions), Scope([Of("body")])
    for expression in expressions:
        assert expression.find(part.context(body=body)) == expression.find(whole.context(body=body))


def test_a_large_part_that_is_not_named_is_not_looked_at() -> None:
    class Untouchable(dict[str, Any]):
        def items(self) -> Any:
            raise AssertionError("converted")

    scope = Scope([Of("body.data.id"), Of("body.type")])
    context = scope.context(body={"type": "x", "data": {"id": 1, "original": Untouchable(a=1)}})
    assert Of("body.data.id").find(context) == 1
