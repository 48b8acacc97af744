"""`headrace quarantine`: requests that no adapter could read, and what operators do with them."""

from collections.abc import Callable, Coroutine
from typing import Any

import click

from shared.cli import config_option, json_option
from shared.cli.attention import stranded_note
from shared.cli.consent import confirm, run_showing, user
from shared.cli.names import check_narrowing, no_such
from shared.cli.parameters import EVENT_ID, Moment, limit_option, span, span_options
from shared.cli.printing import print_json, print_table
from shared.cli.running import ask, running_config
from shared.cli.wording import counted, seconds
from shared.errors import CommandFailed
from shared.operations.quarantine import Chosen, QuarantineWork
from shared.settings import Config
from shared.store.admission import AdmissionOptions
from shared.store.client import RedisClient
from shared.store.clock import now_ms
from shared.store.records import Records
from shared.store.sources import Sources
from shared.store.views import QuarantineView


@click.group("quarantine", invoke_without_command=True)
@limit_option
@click.option("--source", help="Only those of this source.")
@span_options("came in")
@config_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    limit: int,
    source: str | None,
    since: Moment | None,
    until: Moment | None,
    config: str | None,
    as_json: bool,
) -> None:
    """List requests that no adapter could read, newest first, with the reason."""
    if ctx.invoked_subcommand is not None:
        ctx.obj = {"source": source, "since": since, "until": until}
        return
    settings = running_config(config)

    async def read(client: RedisClient) -> tuple[int, list[QuarantineView], dict[str, int]]:
        records = Records(client)
        within = span(since, until, await now_ms(client))
        stranded = await Sources(client).stranded([each.name for each in settings.sources], at_once=True)
        return await records.in_quarantine(), await records.quarantined(within, source, limit), stranded

    count, found, stranded = ask(settings, read)
    if not found:
        check_narrowing(settings, source)
    if as_json:
        print_json({"count": count, "quarantined": found, "stranded": stranded})
        return
    if not found:
        click.echo("Nothing in quarantine matches." if count else "Nothing is in quarantine.")
    else:
        print_table(
            ["RECEIPT / RECEIVED (UTC)", "SOURCE", "BYTES", "REASON"],
            [
                [
                    f"{view.id}\n{seconds(view.received_at)}",
                    view.source,
                    f"{view.bytes:,}",
                    f"{view.code}: {view.detail}",
                ]
                for view in found
            ],
        )
        click.echo(f"\n{len(found):,} of {count:,}. See a body: headrace events RECEIPT --payload")
        click.echo("Send them through again after a fix: headrace admit RECEIPT, headrace admit --all")
    for name, waiting in stranded.items():
        click.echo(f"\n{stranded_note(name, waiting)}")


async def check_source(client: RedisClient, config: Config, name: str | None) -> None:
    """Check that a source is configured, or was. Raises: UsageError; StoreUnavailable."""
    known = [source.name for source in config.sources]
    if name is None or name in known:
        return
    known += [each for each in await Sources(client).on_record() if each not in known]
    if name not in known:
        raise no_such("source", name, known)


@command.command("discard")
@click.argument("receipts", metavar="[RECEIPT]...", nargs=-1, type=EVENT_ID)
@click.option("--source", help="Only those of this source.")
@click.option("--code", help="Only those quarantined for this reason, as `quarantine` lists it.")
@span_options("came in")
@click.option("--all", "all_", is_flag=True, help="Discard all that is in quarantine.")
@click.option("--dry-run", is_flag=True, help="Say how many it would discard, and stop.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
@json_option
@click.pass_context
def discard(
    ctx: click.Context,
    receipts: tuple[str, ...],
    source: str | None,
    code: str | None,
    since: Moment | None,
    until: Moment | None,
    all_: bool,
    dry_run: bool,
    yes: bool,
    config: str | None,
    as_json: bool,
) -> None:
    """Discard requests in quarantine for good: RECEIPTs, or those that the options name.

    It says how many, and asks.
    """
    before = ctx.obj or {}
    source = source or before.get("source")
    since = since if since is not None else before.get("since")
    until = until if until is not None else before.get("until")
    named = any(value is not None for value in (source, code, since, until))
    if [bool(receipts), named, all_].count(True) != 1:
        raise click.UsageError("say what to discard: RECEIPTs, or options that name some, or --all")
    settings = running_config(config)

    async def count(client: RedisClient) -> tuple[Chosen, dict[str, int]]:
        await check_source(client, settings, source)
        within = span(since, until, await now_ms(client), ends_now=True)
        chosen = Chosen(within, receipts, source, code)
        return chosen, await QuarantineWork(client).count(chosen)

    chosen, planned = ask(settings, count)
    total = sum(planned.values())
    if total:
        click.echo(
            f"{'Would discard' if dry_run else 'Discarding'} {counted(total, 'request')}:", err=as_json
        )
        for reason, requests in planned.items():
            click.echo(f"  {reason}: {requests:,}", err=as_json)
    else:
        click.echo("Nothing in quarantine matches.", err=as_json)
    if dry_run or not total:
        if as_json:
            print_json({"planned": planned, "discarded": None})
        return
    confirm(f"Discard {counted(total, 'request')} for good?", yes=yes)

    def run(client: RedisClient, done: Callable[[int], None]) -> Coroutine[Any, Any, int]:
        return QuarantineWork(client).discard(chosen, planned, user=user(), done=done)

    discarded = run_showing(settings, run, "requests", total)
    if as_json:
        print_json({"planned": planned, "discarded": discarded})
    else:
        click.echo(f"Discarded {counted(discarded, 'request')}.")


@command.command("inbox")
@click.argument("source")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
@json_option
def inbox(source: str, yes: bool, config: str | None, as_json: bool) -> None:
    """Put what waits in the inbox of SOURCE into quarantine, if SOURCE left the configuration.

    From there it can be admitted once the source is back, or discarded.
    """
    settings = running_config(config)
    configured = [each.name for each in settings.sources]
    if source in configured:
        raise CommandFailed(f"{source} is configured: workers admit what waits in its inbox")

    async def count(client: RedisClient) -> int:
        sources = Sources(client)
        inboxes = await sources.with_inbox()
        if source not in inboxes:
            await check_source(client, settings, source)
        return (await sources.stranded(configured, at_once=True, also=inboxes)).get(source, 0)

    planned = ask(settings, count)
    click.echo(f"{counted(planned, 'request')} in the inbox of {source}.", err=as_json)
    if not planned:
        if as_json:
            print_json({"planned": 0, "quarantined": None})
        return
    confirm(f"Put {counted(planned, 'request')} into quarantine?", yes=yes)
    options = AdmissionOptions(settings.dedupe.window.ms, settings.copies_ms)

    def run(client: RedisClient, done: Callable[[int], None]) -> Coroutine[Any, Any, int]:
        return QuarantineWork(client).take_from_inbox(source, planned, options, user=user(), done=done)

    moved = run_showing(settings, run, "requests", planned)
    if as_json:
        print_json({"planned": planned, "quarantined": moved})
    else:
        click.echo(f"Put {counted(moved, 'request')} into quarantine.")
