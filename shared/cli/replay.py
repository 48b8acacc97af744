"""`headrace replay`: send events again, after saying how many."""

from collections.abc import Sequence

import click

from shared.cli import config_option, json_option
from shared.cli.consent import confirm, run_showing, user
from shared.cli.events import admitted
from shared.cli.names import check_narrowing, no_such
from shared.cli.parameters import EVENT_ID, Moment, span, span_options
from shared.cli.printing import print_json
from shared.cli.running import ask, running_config
from shared.cli.wording import counted
from shared.errors import CommandFailed
from shared.operations.disk import archive_of, dead_letter_file
from shared.operations.replays import Replayed, ReplayPlan, Replays, Selection
from shared.settings import Config
from shared.store.client import RedisClient
from shared.store.clock import now_ms


@click.command("replay")
@click.argument("events", metavar="[EVENT]...", nargs=-1, type=EVENT_ID)
@click.option("--dead-letters", metavar="TARGET", help="Send the dead letters of this target again.")
@span_options("came in (with --dead-letters: was given up)")
@click.option("--source", help="Only events of this source.")
@click.option("--type", "type_", metavar="GLOB", help="Only events of these canonical types: payment.*")
@click.option("--to", metavar="TARGET", help="Send to this target, instead of each event's own.")
@click.option("--dry-run", is_flag=True, help="Say how many it would send, and stop.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
@json_option
def command(
    events: tuple[str, ...],
    dead_letters: str | None,
    since: Moment | None,
    until: Moment | None,
    source: str | None,
    type_: str | None,
    to: str | None,
    dry_run: bool,
    yes: bool,
    config: str | None,
    as_json: bool,
) -> None:
    """Send EVENTs again, or a target's --dead-letters, or what came in --since … --until.

    Each goes to its own targets that are still configured, or to one target (--to), on a fresh schedule of
    retries and under the same webhook-id. What is on its way already is left alone. It says how many
    deliveries that is, and asks, before it sends any.
    """
    ranged = since is not None or until is not None
    if events and (dead_letters or ranged or source or type_):
        raise click.UsageError("give EVENTs, or --dead-letters, or a time range, not several of these")
    if not (events or dead_letters or ranged):
        raise click.UsageError("say what to replay: EVENTs, --dead-letters TARGET, or --since / --until")
    settings = running_config(config)
    names = [target.name for target in settings.targets]
    _check_targets(names, dead_letters, to)
    ids = tuple(admitted(settings, event) for event in events)
    file, archive = dead_letter_file(settings), archive_of(settings)

    async def count(client: RedisClient) -> tuple[Selection, ReplayPlan]:
        selection = Selection(
            span=span(since, until, await now_ms(client), ends_now=True),
            events=ids,
            dead_letters_of=dead_letters,
            source=source,
            type=type_,
            to=to,
        )
        return selection, await Replays(client, names, file, archive).plan(selection)

    selection, plan = ask(settings, count)
    if not plan.total and not plan.waiting and not plan.unserved:
        check_narrowing(settings, source, type_)
    _announce(plan, dry_run=dry_run, err=as_json)
    if dry_run or not plan.total:
        if as_json:
            print_json({"planned": plan, "replayed": None})
        if ids and not plan.total and not plan.waiting:
            raise CommandFailed("nothing to send to: name a target with --to")
        return
    confirm(f"Send {counted(plan.total, 'delivery', 'deliveries')}?", yes=yes)
    replayed = _run(settings, names, selection, plan)
    if as_json:
        print_json({"planned": plan, "replayed": replayed})
        return
    click.echo(f"Sent {counted(replayed.total, 'delivery', 'deliveries')} on the way again.")
    if replayed.waiting:
        click.echo(f"{replayed.waiting:,} were on their way already.")
    if replayed.gone:
        click.echo(f"{replayed.gone:,} are gone: retention has removed their events.")


def _check_targets(names: Sequence[str], dead_letters: str | None, to: str | None) -> None:
    if to is not None and to not in names:
        raise no_such("target", to, names)
    # Deliveries of a removed target may go to another.
    if dead_letters is not None and to is None and dead_letters not in names:
        raise no_such("target", dead_letters, names)


def _announce(plan: ReplayPlan, *, dry_run: bool, err: bool) -> None:
    verb = "Would send" if dry_run else "Sending"
    if plan.total:
        click.echo(f"{verb} {counted(plan.total, 'delivery', 'deliveries')} again:", err=err)
        for target, count in plan.deliveries.items():
            click.echo(f"  {target}: {count:,}", err=err)
    else:
        click.echo("Nothing to replay.", err=err)
    if plan.waiting:
        click.echo(f"Left alone, because on their way already: {plan.waiting:,}", err=err)
    for target, count in plan.unserved.items():
        click.echo(f"Left out, because {target} is not configured any more: {count:,}", err=err)


def _run(config: Config, names: Sequence[str], selection: Selection, plan: ReplayPlan) -> Replayed:
    file, archive = dead_letter_file(config), archive_of(config)
    return run_showing(
        config,
        lambda client, done: Replays(client, names, file, archive).run(
            selection, plan, user=user(), done=done
        ),
        "deliveries",
        plan.total,
        then="Those are on their way",
    )
