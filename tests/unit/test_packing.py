"""Packed events come back as they were, from any version that packed them."""

from hashlib import sha256
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.event.ids import event_id
from shared.event.packing import Packed, pack, unpack

ID = event_id("trustshare", "1795838354701-3")
texts = st.text(max_size=40)


@given(
    st.builds(
        Packed,
        attributes=st.binary(max_size=2000),
        data=st.binary(max_size=2000),
        body=st.binary(max_size=2000),
        content_type=texts,
        attempts=st.dictionaries(texts, st.binary(max_size=200), max_size=5),
    )
)
def test_what_is_packed_comes_back(event: Packed) -> None:
    assert unpack(ID, pack(ID, event)) == event


def test_what_was_packed_before_comes_back() -> None:
    """Who changes how events are packed adds another value here: this one is in somebody's Redis."""
    kept = bytes.fromhex("019b7a840b5ad35628d51e1140896590085375ed06f42cdbb83851c1f0083bc4cdb500")
    assert unpack(ID, kept) == Packed(b'{"id":"x"}', b'{"provider":"x"}', b"{}", attempts={"a 1": b'{"n":1}'})


def test_a_dictionary_that_was_used_stays_as_it_is() -> None:
    text = (files("shared.event") / "dictionary-1.txt").read_bytes()
    assert sha256(text).hexdigest()[:16] == "1082e739339e3dd8"


@pytest.mark.parametrize(
    "value", [b"\xff", b"\xffnew", b"\x01", b"\x01\x00\x00", pack(ID, Packed(b"", b"", b""))[:-2]]
)
def test_what_a_later_version_packed_is_refused_by_the_event_s_id(value: bytes) -> None:
    with pytest.raises(ValueError, match=rf"^{ID} was packed by a later version of Headrace$"):
        unpack(ID, value)
