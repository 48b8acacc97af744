"""`headrace deliveries EVENT`: where an event went, and every attempt."""

import click

from shared.cli import config_option, json_option
from shared.cli.events import find
from shared.cli.parameters import EVENT_ID
from shared.cli.printing import print_json, print_table
from shared.cli.running import ask, running_config
from shared.cli.wording import seconds
from shared.errors import CommandFailed
from shared.operations.events import events_of
from shared.settings import Config
from shared.store.views import AttemptView, CopyView, DeadLetter, DeliveryView, EventView, InboxView


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
        concurrency = {target.name: target.concurrency for target in settings.targets}
        views = ask(
            settings,
            lambda client: events_of(client, settings).deliveries(
                id, answers=answers, concurrency=concurrency
            ),
        )
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
        ["TARGET", "STATE", "WHY", "FAILED ATTEMPTS"],
        [
            [
                view.target + ("" if view.target in configured else "\n(not in the configuration)"),
                view.state,
                _why(view),
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


def _why(view: DeliveryView) -> str:
    if view.leased_until:
        return f"attempt {view.failed + 1} is under way, until {seconds(view.leased_until)} at most"
    if view.why is None:
        return ""
    text = view.why.text
    if view.why.at is not None:
        text = text.replace(view.why.at, f"{seconds(view.why.at)}")  # as all listings show times
    return f"{view.why.word}: {text}"


def _outcome(attempt: AttemptView) -> str:
    outcome = f"HTTP {attempt.status}" if attempt.status is not None else attempt.error
    if attempt.resent:
        outcome += " (sent twice: a kept connection had closed)"
    return f"{outcome}\n{attempt.answer}" if attempt.answer else outcome


def given_up(letter: DeadLetter) -> str:
    """Return why a delivery was given up, and how its last attempt ended: `gave up …, last: HTTP 500`."""
    return f"{letter.why.text}, last: {_outcome(letter.last)}" if letter.last else letter.why.text
