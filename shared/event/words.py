"""The words of a payload, by which events are found.

Words are compared without regard to case; what is no letter or digit separates them.
"""

import re
from collections.abc import Iterator, Sequence

from shared.event.jsonbody import Json, Number

MOST_WORDS, MOST_CHARACTERS = 5000, 200_000  # PostgreSQL takes a megabyte of them
LONGEST_WORD = 100
_WORD = re.compile(r"[^\W_]+")


def words_of(value: Json) -> list[str]:
    """Return the words of all values in a JSON document, in their order; names of members are none.

    What is beyond MOST_WORDS, or MOST_CHARACTERS, is left out; a word is cut to LONGEST_WORD characters.
    """
    words: list[str] = []
    characters = 0
    for text in _texts(value):
        for word in split(text):
            characters += len(word)
            if len(words) == MOST_WORDS or characters > MOST_CHARACTERS:
                return words
            words.append(word)
    return words


def _texts(value: Json) -> Iterator[str]:
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            stack.extend(reversed(value.values()))
        elif isinstance(value, list):
            stack.extend(reversed(value))
        elif isinstance(value, str):
            yield value
        elif isinstance(value, Number):
            yield value.text
        elif isinstance(value, int) and not isinstance(value, bool):
            yield str(value)


def split(text: str) -> list[str]:
    """Return the words of a text."""
    return [word[:LONGEST_WORD] for word in _WORD.findall(text.casefold())]


def has_in_order(words: Sequence[str], wanted: Sequence[str]) -> bool:
    """Tell whether all of `wanted` stand among the words in this order, one behind the other."""
    first, count = wanted[0], len(wanted)
    return any(
        word == first and list(words[at : at + count]) == list(wanted) for at, word in enumerate(words)
    )
