"""Which part stands in which page."""

from functools import partial

from tests.documents import catalogue, commands, mapping, memory, outputs, transitions
from tests.documents.markers import Parts

QUICK: dict[str, Parts] = {
    "deploy/README.md": {"commands": commands.table, "memory": memory.table},
    "shared/providers/README.md": {"providers": mapping.table},
    "shared/store/README.md": {"transitions": transitions.table},
    "tests/README.md": {"cases": catalogue.table},
}
"""Page → its parts that are made of the code alone."""

OUTPUTS: dict[str, Parts] = {
    "README.md": {"demo": partial(outputs.shown, "demo")},
    "deploy/README.md": {name: partial(outputs.shown, name) for name in outputs.NAMES if name != "demo"},
}
"""Page → its parts that are printed by the commands themselves. They need a Redis."""
