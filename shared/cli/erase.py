"""`headrace erase`: erase what is kept of a person."""

from collections.abc import Callable

import click
import msgspec

from shared.archive.person import DISTINCT, Person
from shared.cli import config_option, json_option
from shared.cli.consent import confirm, run_showing, user
from shared.cli.names import no_such
from shared.cli.printing import print_json
from shared.cli.running import ask, running_config
from shared.cli.wording import counted
from shared.errors import CommandFailed
from shared.operations.erasure import Erased, Erasure, ErasurePlan
from shared.providers import ADAPTERS
from shared.settings import Config
from shared.store.client import RedisClient

_PLACES = {
    "events_in_redis": ("event in Redis", "events in Redis"),
    "events_in_archive": ("event in the archive", "events in the archive"),
    "dead_letters_on_disk": ("dead letter on disk", "dead letters on disk"),
    "copies": ("suppressed copy", "suppressed copies"),
    "in_quarantine": ("request in quarantine (discarded)", "requests in quarantine (discarded)"),
    "in_inboxes": ("request in an inbox", "requests in inboxes"),
    "held": ("record that a hold keeps: it stays", "records that holds keep: they stay"),
}


@click.command("erase")
@click.option("--party", required=True, metavar="NAME", help="Who: as the provider names the party.")
@click.option("--provider", help="Only what this provider sent.")
@click.option("--with-waiting", is_flag=True, help="Also what waits; its deliveries are discarded.")
@click.option("--dry-run", is_flag=True, help="Only say how much there is.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
@json_option
def command(
    party: str,
    provider: str | None,
    with_waiting: bool,
    dry_run: bool,
    yes: bool,
    config: str | None,
    as_json: bool,
) -> None:
    """Erase what is kept of a person: in Redis, in the archive, among dead letters and copies.

    It says how much there is, and asks. Events stay listed with their ids, types, times, amounts and how
    their deliveries went; payloads, parties, details and answers are gone for good. If it is stopped, run it
    again.
    """
    if not party.strip():
        raise click.UsageError("--party is empty")
    if provider is not None and provider not in ADAPTERS:
        raise no_such("provider", provider, list(ADAPTERS))
    settings = running_config(config)
    person = Person(party, provider)
    plan = ask(settings, lambda client: _plan(client, settings, person))
    _announce(plan, err=as_json)
    if not person.is_distinct:
        click.echo(
            f"Events that only mention it in a text are not found: it is shorter than {DISTINCT} characters.",
            err=True,
        )
    elif settings.archive.encryption_keys:
        click.echo(
            "Archived events that only mention it in a text are not found: they are encrypted.", err=True
        )
    if dry_run:
        if as_json:
            print_json({"planned": plan, "erased": None})
        return
    wait = plan.waiting + plan.in_inboxes
    if wait and not with_waiting:
        click.echo(f"{wait:,} of these wait for delivery, and stay until they are delivered.", err=True)
    elif wait:
        click.echo(f"{wait:,} of these wait for delivery: they are never delivered then.", err=True)
    if plan.total:
        confirm("Erase this for good?", yes=yes)
    # If there is nothing, an erasure before may have been stopped before it had the files written anew.
    erased = _run(settings, person, plan, with_waiting=with_waiting)
    if as_json:
        print_json({"planned": plan, "erased": erased})
    else:
        _report(settings, erased)
    if erased.left:
        raise CommandFailed(
            f"{erased.left:,} wait for delivery and were left: run this again once they are delivered, or"
            " discard their deliveries: --with-waiting"
        )
    if erased.to_do:
        raise CommandFailed("not all is erased: see above")


async def _plan(client: RedisClient, config: Config, person: Person) -> ErasurePlan:
    erasure = Erasure(client, config, person)
    try:
        return await erasure.plan()
    finally:
        erasure.close()


def _run(config: Config, person: Person, plan: ErasurePlan, *, with_waiting: bool) -> Erased:
    async def run(client: RedisClient, done: Callable[[int], None]) -> Erased:
        erasure = Erasure(client, config, person)
        try:
            return await erasure.run(plan, with_waiting=with_waiting, user=user(), done=done)
        finally:
            erasure.close()

    return run_showing(config, run, "records", plan.total)


def _announce(plan: ErasurePlan, *, err: bool) -> None:
    counts = msgspec.structs.asdict(plan)
    kept = plan.total or plan.held
    click.echo("Kept of this party:" if kept else "Nothing is kept of this party.", err=err)
    for name, (one, many) in _PLACES.items():
        if counts[name]:
            click.echo(f"  {counted(counts[name], one, many)}", err=err)


def _report(config: Config, erased: Erased) -> None:
    click.echo("Erased, and the files of Redis and of the archive are written anew.")
    for each in erased.to_do:
        click.echo(f"To do: {each}", err=True)
    click.echo("Not in Headrace's hands: backups, Redis replicas' files, and what targets were sent.")
    if config.archive.url.startswith("postgresql"):
        click.echo(
            "Nor are PostgreSQL's log (WAL), its replicas, and freed space in its files:"
            " see Erasure in deploy/README.md."
        )
