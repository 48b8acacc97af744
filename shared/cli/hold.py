"""`headrace hold`: what the archive keeps whatever its age, for as long as a court, say, may ask for it."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click

from shared.cli import config_option, json_option
from shared.cli.consent import confirm, user
from shared.cli.events import admitted
from shared.cli.names import no_such
from shared.cli.parameters import EVENT_ID, Moment, span, span_options
from shared.cli.printing import plain, print_json, print_table
from shared.cli.quarantine import check_source
from shared.cli.running import ask, running_config
from shared.cli.transaction import source_of
from shared.cli.wording import counted, seconds
from shared.errors import CommandFailed
from shared.event.times import rfc3339_ms
from shared.operations.events import events_of
from shared.operations.holds import Holding, Kept, named
from shared.providers import ADAPTERS
from shared.settings import Config
from shared.store.client import RedisClient
from shared.store.clock import now_ms

T = TypeVar("T")


@click.command("hold")
@click.argument("what", metavar="[EVENT | PROVIDER TRANSACTION]", nargs=-1)
@click.option("--source", help="All events of this source; of a transaction, those of this source.")
@span_options("came in")
@click.option("--reason", metavar="TEXT", help="Why: it is listed, and stands in the audit.")
@click.option("--lift", metavar="HOLD", help="Lift the hold with this id.")
@click.option("--yes", is_flag=True, help="Do not ask before a hold is lifted.")
@config_option
@json_option
def command(
    what: tuple[str, ...],
    source: str | None,
    since: Moment | None,
    until: Moment | None,
    reason: str | None,
    lift: str | None,
    yes: bool,
    config: str | None,
    as_json: bool,
) -> None:
    """Keep EVENT, or TRANSACTION of PROVIDER, in the archive until the hold is lifted, whatever `keep` says.

    With --source and without them: all that came from there, or within --since and --until. Copies are kept
    with their events. What is named and comes to the archive later is kept, too. Without arguments: list what
    is held.
    """
    settings = running_config(config)
    if not settings.archive.url:
        raise CommandFailed("there is no archive: archive.url is not set")
    spans = since is not None or until is not None
    if lift is not None:
        if what or source or spans or reason:
            raise click.UsageError("--lift takes the id of a hold, and nothing beside it")
        _lift(settings, lift, yes=yes, as_json=as_json)
    elif what or source or spans:
        if not (reason or "").strip():
            raise click.UsageError("say why: --reason TEXT")
        if spans and (what or not source):
            raise click.UsageError(
                "--since and --until are of a source: --source NAME, and no EVENT or TRANSACTION"
            )
        _place(settings, _named(settings, what, source, since, until), reason or "", as_json=as_json)
    elif reason:
        raise click.UsageError("say what to hold: EVENT, PROVIDER TRANSACTION, or --source NAME")
    else:
        _list(settings, as_json=as_json)


def _named(
    config: Config, what: tuple[str, ...], source: str | None, since: Moment | None, until: Moment | None
) -> dict[str, Any]:
    """Return what a hold is to name. Raises: UsageError; CommandFailed if nothing of it was ever here."""
    if len(what) == 1:
        if source is not None:
            raise click.UsageError("--source says nothing of one EVENT")
        return {"event": admitted(config, EVENT_ID.convert(what[0], None, None))}
    if len(what) == 2:
        return _transaction(config, *what, source)
    if what:
        raise click.UsageError("say one EVENT, or one PROVIDER and TRANSACTION")

    async def look(client: RedisClient) -> dict[str, Any]:
        within = span(since, until, await now_ms(client))
        found: dict[str, Any] = {"source": source}
        found |= {"since_ms": within.since_ms} if since is not None else {}
        found |= {"until_ms": within.until_ms} if until is not None else {}
        holding = Holding(client, config.archive)
        try:
            # The archive may have events of a source that left the configuration years ago.
            if not await holding.events(**found):
                await check_source(client, config, source)
        finally:
            holding.close()
        return found

    return ask(config, look)


def _transaction(config: Config, provider: str, id: str, source: str | None) -> dict[str, Any]:
    if provider not in ADAPTERS:
        raise no_such("provider", provider, ADAPTERS)
    source = source_of(config, provider, source)
    if not ask(config, lambda client: events_of(client, config).transaction(provider, id, source)):
        raise CommandFailed(f"no event of {provider}'s transaction {plain(id)} is here")
    return {"provider": provider, "transaction_id": id} | ({} if source is None else {"source": source})


def _place(config: Config, names: dict[str, Any], reason: str, *, as_json: bool) -> None:
    kept = _with(config, lambda holding: holding.place(user(), reason.strip(), **names))
    if as_json:
        print_json(_json(kept))
        return
    click.echo(f"{kept.hold.id} keeps {_keeps(kept)}: {counted(kept.events, 'archived event')} now.")


def _lift(config: Config, id: str, *, yes: bool, as_json: bool) -> None:
    listed = {kept.hold.id: kept for kept in _with(config, Holding.listing)}
    if id not in listed:
        raise no_such("hold", id, listed) if listed else CommandFailed("nothing is held")
    kept = listed[id]
    click.echo(f"{id} keeps {_keeps(kept)}: {counted(kept.events, 'archived event')}.", err=as_json)
    confirm("Lift it? What is older than `keep` says is removed for good, within about an hour.", yes=yes)
    lifted = _with(config, lambda holding: holding.lift(user(), kept))
    if as_json:
        print_json(_json(kept) | {"lifted": lifted})
        return
    click.echo(f"Lifted {id}." if lifted else f"{id} was lifted meanwhile.")


def _list(config: Config, *, as_json: bool) -> None:
    listed = _with(config, Holding.listing)
    if as_json:
        print_json({"holds": [_json(kept) for kept in listed]})
        return
    if not listed:
        click.echo("Nothing is held.")
        return
    print_table(
        ["HOLD / PLACED (UTC)", "BY", "KEEPS", "EVENTS NOW", "REASON"],
        [
            [
                f"{kept.hold.id}\n{seconds(rfc3339_ms(kept.hold.at_ms))}",
                kept.hold.user,
                _keeps(kept),
                f"{kept.events:,}",
                kept.hold.reason,
            ]
            for kept in listed
        ],
    )
    click.echo("\nLift one: headrace hold --lift HOLD")


def _with(config: Config, work: Callable[[Holding], Awaitable[T]]) -> T:
    async def body(client: RedisClient) -> T:
        holding = Holding(client, config.archive)
        try:
            return await work(holding)
        finally:
            holding.close()

    return ask(config, body)


def _keeps(kept: Kept) -> str:
    hold = kept.hold
    if hold.event is not None:
        return hold.event
    of_source = f"source {hold.source}" if hold.source is not None else ""
    if hold.transaction_id is not None:
        return plain(f"transaction {hold.transaction_id} of {of_source or hold.provider}")
    since, until = (None if ms is None else seconds(rfc3339_ms(ms)) for ms in (hold.since_ms, hold.until_ms))
    return of_source + (f" since {since}" if since else "") + (f" until {until}" if until else "")


def _json(kept: Kept) -> dict[str, Any]:
    times = {"since_ms": "since", "until_ms": "until"}
    keeps = {
        times.get(name, name): rfc3339_ms(value) if name in times else value
        for name, value in named(kept.hold).items()
    }
    hold = kept.hold
    placed = {"id": hold.id, "placed_at": rfc3339_ms(hold.at_ms), "user": hold.user, "reason": hold.reason}
    return placed | {"keeps": keeps, "events": kept.events}
