"""`headrace retry`: make due now what waits for its next attempt."""

import click

from shared.cli import config_option, json_option
from shared.cli.consent import confirm, user
from shared.cli.events import admitted
from shared.cli.names import check_narrowing, check_target
from shared.cli.parameters import EVENT_ID
from shared.cli.printing import print_json
from shared.cli.running import ask, running_config
from shared.cli.wording import counted
from shared.store.client import RedisClient
from shared.store.retries import Counts, Retries, Wanted
from shared.store.targets import Targets, TargetView


@click.command("retry")
@click.argument("events", metavar="[EVENT]...", nargs=-1, type=EVENT_ID)
@click.option("--target", metavar="NAME", help="Only deliveries to this target.")
@click.option("--source", help="With --target: only events of this source.")
@click.option("--type", "type_", metavar="GLOB", help="With --target: only these canonical types: payment.*")
@click.option("--dry-run", is_flag=True, help="Say how many it would make due, and stop.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
@json_option
def command(
    events: tuple[str, ...],
    target: str | None,
    source: str | None,
    type_: str | None,
    dry_run: bool,
    yes: bool,
    config: str | None,
    as_json: bool,
) -> None:
    """Make due now what waits for its next attempt: of EVENTs, or all that waits for a --target.

    The schedule goes on as before: a failed attempt counts. A pause, a rate and a concurrency still hold what
    they hold; if the target's breaker is open, one delivery tries at once, and the others follow when it
    succeeds. It says how many deliveries that is, and asks. What was given up is sent again by `replay`.
    """
    if not events and target is None:
        raise click.UsageError("say what to retry: EVENTs, or --target NAME")
    if events and (source or type_):
        raise click.UsageError("--source and --type narrow --target; they go with no EVENTs")
    settings = running_config(config)
    if target is not None:
        check_target(settings, target)
    check_narrowing(settings, source, type_)
    names = [each.name for each in settings.targets] if target is None else [target]
    ids = tuple(dict.fromkeys(admitted(settings, event) for event in events))
    wanted = Wanted(tuple(names), ids, source, type_)

    async def count(client: RedisClient) -> tuple[Counts, list[TargetView]]:
        counts = await Retries(client).count(wanted)
        return counts, await Targets(client).views(counts.targets)

    counts, views = ask(settings, count)
    _announce(counts, views, dry_run=dry_run, err=as_json)
    # A delivery that is due may wait for the breaker's next probe: a retry makes that probe now.
    tries = [view.name for view in views if view.breaker == "open" and view.state == "active"]
    if dry_run or not (counts.total or tries):
        if as_json:
            print_json({"planned": counts, "retried": None})
        return
    confirm(f"Make {counted(counts.total, 'delivery', 'deliveries')} due now?", yes=yes)
    made = ask(settings, lambda client: Retries(client).run(wanted, counts, user=user()))
    if as_json:
        print_json({"planned": counts, "retried": made})
        return
    total = sum(made.values())
    click.echo(f"{counted(total, 'delivery is', 'deliveries are')} due now.")


def _announce(counts: Counts, views: list[TargetView], *, dry_run: bool, err: bool) -> None:
    if counts.total:
        verb = "Would make" if dry_run else "Making"
        click.echo(f"{verb} {counted(counts.total, 'delivery', 'deliveries')} due now:", err=err)
        for target, count in counts.later.items():
            click.echo(f"  {target}: {count:,}", err=err)
    else:
        click.echo("Nothing waits for its next attempt.", err=err)
    due = sum(counts.now.values())
    if due:
        click.echo(f"Due already: {due:,}", err=err)
    for view in views:
        if view.state != "active":
            click.echo(f"{view.name} is {view.state}: nothing goes out before it is active again.", err=err)
        elif view.breaker == "open":
            click.echo(
                f"The breaker of {view.name} is open: one delivery tries at once, the others follow when it"
                " succeeds.",
                err=err,
            )
