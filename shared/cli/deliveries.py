"""`headrace deliveries EVENT`: where an event went, and every attempt."""

import click

from shared.cli.events import find
from shared.cli.output import (
    ask,
    config_option,
    counted,
    json_option,
    print_json,
    print_table,
    running_config,
    seconds,
)
from shared.cli.parameters import EVENT_ID
from shared.config import Config
from shared.errors import CommandFailed
from shared.store.deliveries import AttemptView, Deliveries, DeliveryView
from shared.store.records import CopyView, EventView, InboxView


@click.command("deliveries")
@click.argument("event", type=EVENT_ID)
@click.option("--answers", is_flag=True, help="Show the first 1 KiB of what the targets answered.")
@config_option
@json_option
def command(event: str, answers: bool, config: str | None, as_json: bool) -> None:
    """Show where EVENT went: the state of each of its deliveries, and every attempt."""
    settings = running_config(config)
    kept = find(settings, event)
    note = ""
    if isinstance(kept, CopyView):
        note = f"{event} is a duplicate of {kept.of}:"
        kept = find(settings, kept.of)
    views: list[DeliveryView] | None = []
    if isinstance(kept, EventView):
        id = kept.id
        views = ask(settings, lambda client: Deliveries(client).of_event(id, answers=answers))
        if views is None:
            raise CommandFailed(f"{id} was removed by retention")
    if as_json:
        print_json({"id": kept.id, "deliveries": views})
        return
    if note:
        click.echo(note)
    if not views:
        reason = "no target wants it"
        if not isinstance(kept, EventView):
            reason = "it is not admitted yet" if isinstance(kept, InboxView) else "it is in quarantine"
        click.echo(f"{kept.id} has no deliveries: {reason}.")
        return
    click.echo(f"{kept.id}\n")
    _print(settings, views)


def _print(config: Config, views: list[DeliveryView]) -> None:
    configured = {target.name for target in config.targets}
    print_table(
        ["TARGET", "STATE", "FAILED ATTEMPTS"],
        [
            [
                view.target + ("" if view.target in configured else "\n(not in the configuration)"),
                _state(view),
                view.failed,
            ]
            for view in views
        ],
    )
    rows = [
        [
            f"{seconds(attempt.at)}",
            view.target,
            attempt.n,
            f"{attempt.duration_ms:,.0f} ms",
            _outcome(attempt),
        ]
        for view in views
        for attempt in view.attempts
    ]
    if rows:
        click.echo()
        print_table(["ATTEMPT AT (UTC)", "TARGET", "NO.", "TOOK", "OUTCOME"], rows)


def _state(view: DeliveryView) -> str:
    if view.due_at:
        return f"{view.state}, due {seconds(view.due_at)}"
    if view.leased_until:
        return f"{view.state}, until {seconds(view.leased_until)} at most"
    return view.state


def _outcome(attempt: AttemptView) -> str:
    outcome = f"HTTP {attempt.status}" if attempt.status is not None else attempt.error
    return f"{outcome}\n{attempt.answer}" if attempt.answer else outcome


def last_attempt(failed: int, attempt: AttemptView | None) -> str:
    """Return how a delivery failed in a few words: `14 attempts, last: HTTP 500`."""
    attempts = counted(failed, "attempt")
    return f"{attempts}, last: {_outcome(attempt)}" if attempt else attempts
