"""`headrace schema`: what a receiver may rely on, as JSON Schema."""

import click

from shared.cli import json_option
from shared.cli.printing import print_json
from shared.nearest import nearest_first
from shared.operations.schema import SENT_TYPES, event_schema


@click.command("schema")
@click.argument("type", required=False)
@json_option
def command(type: str | None, as_json: bool) -> None:
    """Print the JSON Schema (2020-12) of the canonical event, narrowed to one TYPE if one is given.

    It describes the body of a delivery in the form `cloudevents`. It is JSON with --json or without.
    """
    if type is not None and type not in SENT_TYPES:
        types = ", ".join(nearest_first(type, SENT_TYPES))
        raise click.UsageError(f"{type!r} is no canonical type; those are: {types}")
    print_json(event_schema(type))
