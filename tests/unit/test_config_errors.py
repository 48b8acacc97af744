"""What is said of a value that is of the right type, and out of its bounds."""

from typing import Annotated

import msgspec
import pytest
from msgspec import Meta

from shared.config.errors import from_msgspec


class Keys(msgspec.Struct):
    """Keys with each form of bounds."""

    least: Annotated[int, Meta(ge=1)] = 1
    between: Annotated[int, Meta(ge=1, le=9)] = 1
    short: Annotated[str, Meta(max_length=3)] = ""
    told: Annotated[str, Meta(pattern="^a", extra_json_schema={"description": "text that begins with a"})] = (
        "a"
    )
    formed: Annotated[str, Meta(pattern="^a")] = "a"


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("least", 0, "must be at least 1"),
        ("between", 10, "must be from 1 to 9"),
        ("short", "four", "must be at most 3 long"),
        ("told", "b", "must be text that begins with a"),
        ("formed", "b", "is not of the form that it must have"),
    ],
)
def test_a_value_out_of_its_bounds_is_told_what_they_are(key: str, value: object, problem: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({key: value}, Keys)
    error = from_msgspec(str(caught.value), Keys, "")
    assert (error.path, error.problem) == (key, problem)
