"""`headrace check --event`: to which targets an event in a file would go, and why not to the others.

Only the configuration counts here: a target may be paused, or its breaker open.
"""

import time

import click
import msgspec

from shared.cli.names import no_such
from shared.cli.printing import print_table
from shared.errors import CommandFailed
from shared.event.record import SOURCE_PREFIX, Attributes, Data, filter_context
from shared.event.types import HANDSHAKE
from shared.routing.matching import why_not
from shared.routing.reading import Reader
from shared.settings import Config
from shared.store.admission import Entry, Quarantine


class Match(msgspec.Struct, frozen=True):
    """Whether an event goes to a target; `why_not` is None if it does."""

    target: str
    matches: bool
    why_not: str | None


class Matches(msgspec.Struct, frozen=True):
    """An event, and for each target whether it goes there."""

    source: str
    type: str
    targets: list[Match]


class _Envelope(msgspec.Struct):
    data: Data


def matches_of(config: Config, content: bytes, source: str | None) -> Matches:
    """Match a canonical event, or a body that a provider sent to `source`, with each target.

    Raises: CommandFailed if it cannot be read.
    """
    attributes, data = _canonical(content) if source is None else _normalised(config, content, source)
    origin = attributes.source.removeprefix(SOURCE_PREFIX)
    context = filter_context(attributes, data)
    found = []
    for target in config.targets:
        reason = why_not(target, origin, attributes.type, context)
        if attributes.type == HANDSHAKE:
            reason = "a handshake is recorded, and sent to nobody"
        found.append(Match(target.name, reason is None, reason))
    return Matches(origin, attributes.type, found)


def print_matches(matches: Matches) -> None:
    """Print them for people."""
    click.echo(f"{matches.type} from {matches.source}\n")
    if not matches.targets:
        click.echo("There is no target.")
        return
    rows = [(match.target, "yes" if match.matches else "no", match.why_not) for match in matches.targets]
    print_table(("target", "matches", "why not"), rows)


def _canonical(content: bytes) -> tuple[Attributes, Data]:
    try:
        attributes = msgspec.json.decode(content, type=Attributes)
        data = msgspec.json.decode(content, type=_Envelope).data
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CommandFailed(
            f"the file holds no canonical event ({error}); is it what a provider sent? Name its --source"
        ) from None
    return attributes, data


def _normalised(config: Config, content: bytes, source: str) -> tuple[Attributes, Data]:
    reader = Reader(config)
    if not reader.knows(source):
        raise no_such("source", source, [each.name for each in config.sources])
    read = reader.read(Entry(f"{time.time_ns() // 1_000_000}-0", source, content, {}))
    if isinstance(read, Quarantine):
        raise CommandFailed(f"it would be quarantined: {read.code}: {read.detail}")
    return (
        msgspec.json.decode(read.attributes, type=Attributes),
        msgspec.json.decode(read.data, type=Data),
    )
