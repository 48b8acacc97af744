"""`headrace events`: list events, or show what one receipt stands for."""

from collections import Counter
from typing import Any

import click
import msgspec

from shared.cli import config_option, json_option
from shared.cli.names import check_narrowing
from shared.cli.parameters import EVENT_ID, limit_option
from shared.cli.printing import print_bytes, print_fields, print_json, print_table
from shared.cli.running import ask, running_config
from shared.cli.searching import search, search_options
from shared.cli.wording import amount, copies_suppressed, seconds
from shared.delivery.formats import compose
from shared.errors import CommandFailed
from shared.event.record import EventRecord
from shared.operations.events import events_of
from shared.settings import Config
from shared.store.client import RedisClient
from shared.store.clock import now_ms
from shared.store.views import HELD, STATES, CopyView, EventView, InboxView, Kept, QuarantineView
from shared.store.walk import Span


@click.command("events")
@click.argument("event", type=EVENT_ID, required=False)
@limit_option
@search_options
@click.option("--before", type=EVENT_ID, metavar="EVENT", help="Only what comes after EVENT in the list.")
@click.option("--duplicates", is_flag=True, help="List recorded duplicates instead.")
@click.option(
    "--payload",
    is_flag=True,
    help="With EVENT: print it whole, as it is delivered where nothing is redacted.",
)
@config_option
@json_option
def command(
    event: str | None,
    limit: int,
    before: str | None,
    duplicates: bool,
    payload: bool,
    config: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """List events, newest first; or show what became of EVENT, the id that the provider's 200 carried.

    What providers sent is shown only if --payload asks for it.
    """
    if event is not None:
        show(running_config(config), event, payload=payload, as_json=as_json)
        return
    if payload:
        raise click.UsageError("--payload needs an EVENT")
    given = {name for name, value in options.items() if value is not None}
    if duplicates and (unfit := given - {"source", "since", "until"}):
        option = min(unfit).replace("_", "-")
        raise click.UsageError(f"--duplicates does not take --{option}: a duplicate was never read")
    settings = running_config(config)

    async def read(client: RedisClient) -> list[EventView] | list[CopyView]:
        events, wanted = events_of(client, settings), search(await now_ms(client), **options)
        if duplicates:
            return await events.copies(Span(wanted.since_ms, wanted.until_ms), wanted.source, limit, before)
        return await events.events(wanted, limit, before)

    found = ask(settings, read)
    if not found:
        check_narrowing(settings, options["source"], options["type"])
    if as_json:
        print_json({"duplicates" if duplicates else "events": found})
    elif not found:
        click.echo(f"No {'duplicates' if duplicates else 'events'} match.")
    elif duplicates:
        print_table(
            ["RECEIPT / RECEIVED (UTC)", "SOURCE", "DUPLICATE OF", "BODY"],
            [_copy_row(view) for view in found if isinstance(view, CopyView)],
        )
    else:
        print_table(
            ["EVENT / RECEIVED (UTC)", "TYPE / SOURCE", "TRANSACTION / MONEY", "DELIVERIES"],
            [_event_row(view) for view in found if isinstance(view, EventView)],
        )
    if len(found) == limit and not as_json:
        click.echo(f"\nThe first {limit}; there may be more: --limit, or --before {found[-1].id}")
    if duplicates and found and not as_json:
        click.echo("\nAdmit one as an event of its own: headrace admit RECEIPT")


def _event_row(view: EventView) -> list[str]:
    copies = f"\n{copies_suppressed(view.copies, view.differing)}" if view.copies else ""
    return [
        f"{view.id}\n{seconds(view.received_at)}",
        f"{view.type}\n{view.source}",
        f"{view.transaction_id or ''}\n{amount(view.money) or ''}",
        summary(view) + copies,
    ]


def _copy_row(view: CopyView) -> list[str]:
    body = "its first is gone" if view.identical is None else "identical" if view.identical else "DIFFERS"
    return [f"{view.id}\n{seconds(view.received_at)}", view.source, view.of, body]


def summary(view: EventView) -> str:
    """Return an event's deliveries in a few words: `2 done, 1 dead`."""
    counts = Counter(HELD if target in view.held else state for target, state in view.deliveries.items())
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) or "no target wants it"


def find(config: Config, event: str) -> Kept:
    """Return what an id stands for. Raises: CommandFailed if nothing is known of it."""
    sources = [source.name for source in config.sources]
    found = ask(config, lambda client: events_of(client, config).find(event, sources))
    if found is None:
        raise CommandFailed(
            f"{event} is not here: never received by this gateway, or removed by retention (retention.events)"
        )
    return found


def admitted(config: Config, event: str) -> str:
    """Return the id of the event that an id stands for. Raises: CommandFailed if there is none."""
    kept = find(config, event)
    if isinstance(kept, CopyView):
        click.echo(f"{event} is a duplicate of {kept.of}: taking that.", err=True)
        kept = find(config, kept.of)
    if not isinstance(kept, EventView):
        where = "is not admitted yet" if isinstance(kept, InboxView) else "is in quarantine"
        raise CommandFailed(f"{event} {where}: it has no deliveries")
    return kept.id


def show(config: Config, event: str, *, payload: bool, as_json: bool) -> None:
    """Print what an id stands for. Raises: CommandFailed."""
    kept = find(config, event)
    body = ask(config, lambda client: events_of(client, config).payload(kept)) if payload else None
    if payload and body is None:
        of = f": it is the same as that of {kept.of}" if isinstance(kept, CopyView) else ""
        raise CommandFailed(f"the payload of {event} is not kept{of}")
    content = compose(body, "cloudevents")[1] if isinstance(body, EventRecord) else body
    if as_json:
        fields = msgspec.to_builtins(kept)
        if isinstance(body, EventRecord):
            fields["payload"] = msgspec.Raw(content or b"")
        elif content is not None:
            fields["body"] = content.decode("utf-8", "replace")
        print_json(fields)
    elif content is not None:
        print_bytes(content)
    else:
        print_fields([("id", kept.id), *_fields(kept), ("received", kept.received_at)])


def _fields(kept: Kept) -> list[tuple[str, object]]:
    if isinstance(kept, EventView):
        deliveries = [
            f"{target}: {state}" + (f", held behind {kept.held[target]}" if target in kept.held else "")
            for target, state in kept.deliveries.items()
        ]
        return [
            ("state", "admitted"),
            ("source", kept.source),
            ("type", kept.type),
            ("provider", kept.provider),
            ("provider event", kept.provider_event),
            ("transaction", kept.transaction_id),
            ("payment", kept.payment_id),
            ("money", amount(kept.money)),
            ("status", kept.status),
            ("provider status", kept.provider_status),
            ("occurred", kept.occurred_at),
            ("deliveries", "\n".join(deliveries) or "none: no target wants it"),
            ("copies", copies_suppressed(kept.copies, kept.differing) if kept.copies else None),
            ("a copy of", kept.copy_of and f"{kept.copy_of}, admitted by hand"),
        ]
    if isinstance(kept, CopyView):
        same = "the same body, byte for byte" if kept.identical else "another body: see --payload"
        if kept.identical is None:
            same = "a body of which nobody can tell: its first was gone when it came"
        return [("state", f"a duplicate of {kept.of}, with {same}"), ("source", kept.source)]
    if isinstance(kept, QuarantineView):
        return [
            ("state", "in quarantine"),
            ("source", kept.source),
            ("reason", f"{kept.code}: {kept.detail}"),
            ("bytes", kept.bytes),
        ]
    fields: list[tuple[str, object]] = [("state", "received, not admitted yet"), ("source", kept.source)]
    if isinstance(kept, InboxView):
        fields += [("bytes", kept.bytes), ("taken again", kept.takes_alone or None)]
    return fields
