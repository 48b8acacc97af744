"""Only strict JSON is read, numbers stay exact, and nothing but Unreadable comes out of the rest."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.config.check import parse_config
from shared.errors import Unreadable
from shared.event import jsonbody
from shared.event.jsonbody import MAX_DEPTH, Json, Number
from shared.routing.reading import Reader
from shared.store.admission import Admission, Entry

MANY = 100_000


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b' \t\r\n{"a": [1, null, true]} ', {"a": [1, None, True]}),
        (b"1049.10", Number("1049.10")),
        (b"1e999999999", Number("1e999999999")),
        (b"1e99999999999999999999", Number("1e99999999999999999999")),
        (b"-0.0", Number("-0.0")),
        (b"1." + b"1" * MANY, Number("1." + "1" * MANY)),
        (b"18446744073709551616", 2**64),
        (b"9" * 4300, int("9" * 4300)),
        (rb'"\u0000"', "\0"),
        (rb'"\ud83d\ude00"', "😀"),
        (b'{"a": 1, "a": 2}', {"a": 2}),
    ],
)
def test_json_is_read_exactly(body: bytes, expected: Json) -> None:
    assert jsonbody.read(body) == expected


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "empty"),
        (b" \r\n\t", "empty"),
        (b"\xef\xbb\xbf{}", "not-json"),
        ('{"a": 1}'.encode("utf-16"), "not-json"),
        ('{"a": 1}'.encode("utf-16-le"), "not-json"),
        (b"NaN", "not-json"),
        (b"[Infinity]", "not-json"),
        (b"-Infinity", "not-json"),
        (b"01", "not-json"),
        (b"+1", "not-json"),
        (b".5", "not-json"),
        (b"1.", "not-json"),
        (b"[1,]", "not-json"),
        (b"{} {}", "not-json"),
        (b"{}\0", "not-json"),
        (b"{} // note", "not-json"),
        (b"{'a': 1}", "not-json"),
        (b'{"a": ', "not-json"),
        (b'"\xff"', "not-json"),
        (b'"\xc0\x80"', "not-json"),
        (b'"\xed\xa0\x80"', "not-json"),
        (b'{"\xff": 1}', "not-json"),
        (rb'"\ud800"', "not-json"),
        (rb'"\udc00 and more"', "not-json"),
        (rb'"\ud800\u0041"', "not-json"),
        (rb'{"\ud800": 1}', "not-json"),
        (rb'"\x41"', "not-json"),
        (b'"\0"', "not-json"),
        (b'"line\nbreak"', "not-json"),
        (b'{"\t": 1}', "not-json"),
        (b"1" * MANY, "number-too-long"),
        (b"[-" + b"1" * MANY + b"]", "number-too-long"),
        (b"[" * MANY + b"]" * MANY, "too-deep"),
        (b"[" * MANY, "too-deep"),
        (b'{"a":' * MANY + b"1" + b"}" * MANY, "too-deep"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "too-deep"),
        (b'{"a":[' * (MAX_DEPTH // 2) + b"[]" + b"]}" * (MAX_DEPTH // 2), "too-deep"),
    ],
)
def test_what_is_not_strict_json_is_unreadable(body: bytes, code: str) -> None:
    with pytest.raises(Unreadable) as caught:
        jsonbody.read(body)
    assert caught.value.code == code


def test_the_deepest_allowed_body_is_read() -> None:
    jsonbody.read(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)


def test_brackets_side_by_side_and_in_strings_are_no_depth() -> None:
    jsonbody.read(b"[" + b"{}," * 1000 + b'"' + b"[" * 1000 + b'"]')


@pytest.mark.parametrize("body", [b"[]", b'"{}"', b"1", b"1.5", b"null", b"true"])
def test_only_an_object_is_an_object(body: bytes) -> None:
    with pytest.raises(Unreadable, match="not-an-object"):
        jsonbody.read_object(body)


@pytest.mark.parametrize(
    "body",
    [b'{"email": canary@example.com}', b'"canary\n"', b'"canary\xff"', b'{"canary": 1e}', b"\xffcanary"],
)
def test_an_error_shows_nothing_of_the_body(body: bytes) -> None:
    with pytest.raises(Unreadable) as caught:
        jsonbody.read(body)
    assert "canary" not in str(caught.value)
    assert "0xff" not in str(caught.value)
    assert caught.value.__cause__ is None


deep_json = st.recursive(
    st.none() | st.integers() | st.sampled_from(["", "[[{", '"]', "\\", '\\"{', "é["]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "[", '"{']), inner),
    max_leaves=20,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@pytest.mark.case(n=52)
@settings(deadline=None)
@given(deep_json, st.booleans())
def test_a_body_is_read_to_just_the_depth_that_is_allowed(value: Any, ascii: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii).encode()
    jsonbody.read(body, max_depth=depth(value))
    if depth(value):
        with pytest.raises(Unreadable, match="too-deep"):
            jsonbody.read(body, max_depth=depth(value) - 1)


@pytest.mark.case(n=52)
def test_a_body_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    decoder = jsonbody._decoder

    class Counting:
        def decode(self, body: bytes) -> Json:
            decoded.append(body)
            value: Json = decoder.decode(body)
            return value

    monkeypatch.setattr(jsonbody, "_decoder", Counting())
    body = b'{"type":"dispute_raised","token":"t","x":[' + b",".join([b"[]"] * 1000) + b"]}"
    config = {"sources": [{"name": "ts", "provider": "trustshare", "secrets": ["s"]}]}
    assert isinstance(Reader(parse_config(config)).read(Entry("1-1", "ts", body, {})), Admission)
    assert decoded == [body]
