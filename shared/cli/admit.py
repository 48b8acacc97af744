"""`headrace admit`: send quarantined requests through again after a fix; admit a suppressed copy by hand."""

import click

from shared.cli import config_option, json_option
from shared.cli.consent import confirm, run_showing, user
from shared.cli.events import find
from shared.cli.names import check_narrowing
from shared.cli.parameters import EVENT_ID, span
from shared.cli.printing import print_json
from shared.cli.running import ask, running_config
from shared.cli.wording import counted
from shared.errors import CommandFailed
from shared.nearest import nearest_first
from shared.operations.archived import Archived
from shared.operations.disk import archive_of
from shared.operations.readmissions import Held, ReadmissionPlan, Readmissions, Readmitted
from shared.routing.reading import POISON, Reader
from shared.settings import Config
from shared.store.client import RedisClient
from shared.store.clock import now_ms
from shared.store.records import Records
from shared.store.views import EventView, InboxView

NOTHING = ReadmissionPlan({}, {}, {}, poison=0, gone=0)


@click.command("admit")
@click.argument("receipts", metavar="[RECEIPT]...", nargs=-1, type=EVENT_ID)
@click.option("--all", "all_", is_flag=True, help="Send all that is in quarantine through again.")
@click.option("--source", help="With --all: only those of this source.")
@click.option("--code", help="With --all: only those quarantined for this reason, as `quarantine` lists it.")
@click.option("--dry-run", is_flag=True, help="Say what can be read now, and stop.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
@json_option
def command(
    receipts: tuple[str, ...],
    all_: bool,
    source: str | None,
    code: str | None,
    dry_run: bool,
    yes: bool,
    config: str | None,
    as_json: bool,
) -> None:
    """Admit RECEIPTs that were held back, or --all that is in quarantine.

    Each request in quarantine is read again, with the adapters and the configuration of now. If it can be
    read, it is admitted as if it had just come in; else it stays, with the new reason. A suppressed copy is
    admitted as an event of its own. Each keeps its id and its time of receipt. It says what it would do, and
    asks.
    """
    if bool(receipts) == all_:
        raise click.UsageError("say what to admit: RECEIPTs, or --all")
    if receipts and (source or code):
        raise click.UsageError("--source and --code narrow --all; they go with no RECEIPTs")
    settings = running_config(config)
    ids = tuple(id for id in dict.fromkeys(receipts) if _is_held(settings, id))
    if receipts and not ids:
        if as_json:
            print_json({"planned": None, "admitted": None})
        return

    async def count(client: RedisClient) -> tuple[Held, ReadmissionPlan]:
        held = Held(span(None, None, await now_ms(client), ends_now=True), ids, source, code)
        return held, await _readmissions(client, settings).plan(held)

    held, plan = ask(settings, count)
    if all_ and plan == NOTHING:
        _check_code(settings, code)
        check_narrowing(settings, source)
    _announce(plan, dry_run=dry_run, err=as_json)
    left = plan.gone + sum(plan.unserved.values())
    if dry_run or not plan.total:
        if as_json:
            print_json({"planned": plan, "admitted": None})
        if ids and left:
            raise CommandFailed(f"{left:,} of {len(ids):,} cannot be admitted: see above")
        return
    confirm(f"Send {counted(plan.total, 'request')} through?", yes=yes)
    result = _run(settings, held, plan)
    if as_json:
        print_json({"planned": plan, "admitted": result})
    else:
        _report(result)
    left = len(ids) - result.admitted - result.duplicates
    if ids and left:
        raise CommandFailed(f"{left:,} of {len(ids):,} could not be admitted: see above")


def _check_code(config: Config, code: str | None) -> None:
    """Check that a request is in quarantine for this reason. Raises: UsageError."""
    codes = ask(config, lambda client: Records(client).quarantine_codes()) if code is not None else {}
    if code is not None and codes and code not in codes:
        there = ", ".join(f"{each} ({codes[each]:,})" for each in nearest_first(code, codes))
        raise click.UsageError(f"nothing is in quarantine for the reason {code!r}; there is: {there}")


def _readmissions(client: RedisClient, config: Config) -> Readmissions:
    reader = archive_of(config)
    archive = None if reader is None else Archived(reader)
    return Readmissions(client, Reader(config), retention_ms=config.copies_ms, archive=archive)


def _is_held(config: Config, receipt: str) -> bool:
    """Tell whether a receipt can be admitted. Raises: CommandFailed if it is unknown."""
    kept = find(config, receipt)
    if isinstance(kept, InboxView):
        if kept.source not in {source.name for source in config.sources}:
            raise CommandFailed(
                f"{receipt} waits in the inbox of {kept.source}, which is not configured: put the source"
                f" back, and a worker admits it; or: headrace quarantine inbox {kept.source}"
            )
        raise CommandFailed(f"{receipt} waits in the inbox: a worker will admit it")
    if isinstance(kept, EventView):
        click.echo(f"{receipt} is an event already.", err=True)
        return False
    return True


def _announce(plan: ReadmissionPlan, *, dry_run: bool, err: bool) -> None:
    if plan.total:
        verb = "Would send" if dry_run else "Sending"
        click.echo(f"{verb} {counted(plan.total, 'request')} through:", err=err)
        for source, count in plan.readable.items():
            click.echo(f"  {source}: {count:,}", err=err)
        for code, count in plan.unreadable.items():
            click.echo(f"  still not readable, {code}: {count:,}", err=err)
    else:
        click.echo("Nothing to admit.", err=err)
    for source, count in plan.unserved.items():
        click.echo(f"Left out, because {source} is not configured: {count:,}", err=err)
    if plan.poison:
        click.echo(
            f"Left out, because workers died of it: {plan.poison:,} (try with --code {POISON})", err=err
        )
    if plan.gone:
        click.echo(
            f"{plan.gone:,} cannot be admitted: gone meanwhile, or a copy whose body was its first's, which"
            " retention has removed",
            err=err,
        )


def _run(config: Config, held: Held, plan: ReadmissionPlan) -> Readmitted:
    return run_showing(
        config,
        lambda client, done: _readmissions(client, config).run(held, plan, user=user(), done=done),
        "requests",
        plan.total,
    )


def _report(result: Readmitted) -> None:
    sent = sum(result.deliveries.values())
    click.echo(f"Admitted {counted(result.admitted, 'event')}, {counted(sent, 'delivery', 'deliveries')}.")
    if result.duplicates:
        differing = f", {result.differing:,} of them with another body" if result.differing else ""
        click.echo(f"{counted(result.duplicates, 'duplicate')} of what is held{differing}.")
    for code, count in result.quarantined.items():
        click.echo(f"Still not readable, {code}: {count:,}")
    if result.gone:
        click.echo(f"{result.gone:,} were gone.")
