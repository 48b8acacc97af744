"""`headrace schema`: what a receiver may rely on, as JSON Schema."""

import click

from shared.cli.output import print_json
from shared.errors import CommandFailed
from shared.schema import SENT_TYPES, event_schema


@click.command("schema")
@click.argument("type", required=False)
def command(type: str | None) -> None:
    """Print the JSON Schema (2020-12) of the canonical event, narrowed to one TYPE where one is given.

    It describes the body of a delivery in the form `cloudevents`.
    """
    if type is not None and type not in SENT_TYPES:
        raise CommandFailed(f"{type!r} is no canonical type; those are: {', '.join(SENT_TYPES)}")
    print_json(event_schema(type))
