"""The table of the store's scripts, made from the heads of the scripts themselves."""

from collections.abc import Iterator
from pathlib import Path

from tests.documents.markers import ROOT

SCRIPTS = Path("shared/store/scripts")


def table() -> str:
    """Return the table in Markdown: a row for each script, with the first sentence of its head."""
    return "\n".join(["| script | what it does |", "|---|---|", *_rows()])


def _rows() -> Iterator[str]:
    for path in sorted((ROOT / SCRIPTS).glob("*.lua")):
        yield f"| [{path.stem}](scripts/{path.name}) | {first_sentence(path.read_text())} |"


def first_sentence(script: str) -> str:
    """Return the first sentence of the comment that a script begins with. Raises: ValueError without one."""
    words: list[str] = []
    for line in script.splitlines():
        if not line.startswith("-- "):
            break
        for word in line.removeprefix("-- ").split():
            words.append(word)
            if word.endswith("."):
                return " ".join(words).replace("|", "\\|").replace("<", "&lt;")
    raise ValueError("a script begins with a comment that says what it does")
