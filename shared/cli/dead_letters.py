"""`headrace dead-letters`: the deliveries that were given up, and discarding them."""

import click

from shared.cli import config_option, json_option
from shared.cli.consent import confirm, run_showing, user
from shared.cli.deliveries import given_up
from shared.cli.names import no_such
from shared.cli.parameters import EVENT_ID, Moment, limit_option, span, span_options
from shared.cli.printing import print_json, print_table
from shared.cli.quarantine import check_source
from shared.cli.running import ask, running_config
from shared.cli.wording import counted, seconds
from shared.operations.dead_letters import Chosen, DeadLetters
from shared.operations.disk import archive_of, dead_letter_file
from shared.settings import Config
from shared.store.client import RedisClient
from shared.store.clock import now_ms
from shared.store.targets import Targets
from shared.store.views import DeadLetter


@click.group("dead-letters", invoke_without_command=True)
@click.option("--target", help="Only those of this target.")
@limit_option
@span_options("was given up")
@config_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    target: str | None,
    limit: int,
    since: Moment | None,
    until: Moment | None,
    config: str | None,
    as_json: bool,
) -> None:
    """List deliveries that were given up, the latest first, and how many each target has."""
    if ctx.invoked_subcommand is not None:
        ctx.obj = {"target": target, "since": since, "until": until}
        return
    settings = running_config(config)
    configured = [each.name for each in settings.targets]
    targets = configured if target is None else [target]

    async def read(client: RedisClient) -> tuple[dict[str, int], list[DeadLetter]]:
        letters = DeadLetters(client, dead_letter_file(settings), archive_of(settings))
        within = span(since, until, await now_ms(client))
        return await letters.counts(targets), await letters.listing(targets, within, limit)

    counts, letters = ask(settings, read)
    # A target that left the configuration may still have dead letters.
    if target is not None and target not in configured and not counts[target]:
        raise no_such("target", target, configured)
    if as_json:
        print_json({"counts": counts, "dead_letters": letters})
        return
    if not letters:
        click.echo("No dead letters match." if any(counts.values()) else "No dead letters.")
    else:
        print_table(
            ["EVENT / GIVEN UP (UTC)", "TARGET", "TYPE / SOURCE", "WHY"],
            [
                [
                    f"{letter.id}\n{seconds(letter.died_at)}",
                    letter.target + ("\n(on disk)" if letter.on_disk else ""),
                    f"{letter.type}\n{letter.source}",
                    given_up(letter),
                ]
                for letter in letters
            ],
        )
    if any(counts.values()):
        click.echo()
        for name, count in counts.items():
            if count:
                click.echo(f"{name}: {counted(count, 'dead letter')}")
        click.echo("Send them again: headrace replay --dead-letters TARGET")


@command.command("discard")
@click.argument("events", metavar="[EVENT]...", nargs=-1, type=EVENT_ID)
@click.option("--target", help="Only those of this target.")
@click.option("--source", help="Only events of this source.")
@click.option("--type", "type_", metavar="GLOB", help="Only events of these canonical types: payment.*")
@click.option("--reason", metavar="TEXT", help="Only those whose last attempt says this: 'HTTP 500'.")
@span_options("was given up")
@click.option("--all", "all_", is_flag=True, help="Discard all dead letters.")
@click.option("--dry-run", is_flag=True, help="Say how many it would discard, and stop.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
@json_option
@click.pass_context
def discard(
    ctx: click.Context,
    events: tuple[str, ...],
    target: str | None,
    source: str | None,
    type_: str | None,
    reason: str | None,
    since: Moment | None,
    until: Moment | None,
    all_: bool,
    dry_run: bool,
    yes: bool,
    config: str | None,
    as_json: bool,
) -> None:
    """Discard dead letters for good: the EVENTs', or those that the options name.

    It says how many, and asks. In an ordered target, the events of the same transaction that waited for one
    are sent then.
    """
    before = ctx.obj or {}
    target, since, until = (
        target or before.get("target"),
        since if since is not None else before.get("since"),
        until if until is not None else before.get("until"),
    )
    named = any(value is not None for value in (target, source, type_, reason, since, until))
    if all_ == (named or bool(events)):
        raise click.UsageError("say what to discard: EVENTs, options that name some, or --all")
    settings = running_config(config)

    async def count(client: RedisClient) -> tuple[Chosen, dict[str, int]]:
        await check_source(client, settings, source)
        within = span(since, until, await now_ms(client), ends_now=True)
        names = [each.name for each in settings.targets]
        names += [name for name in await Targets(client).on_record() if name not in names]
        letters = DeadLetters(client, dead_letter_file(settings), archive_of(settings))
        if target is not None and target not in names and not any((await letters.counts([target])).values()):
            raise no_such("target", target, names)
        targets = tuple(names) if target is None else (target,)
        chosen = Chosen(targets, within, events, source, type_, reason)
        return chosen, await letters.count(chosen)

    chosen, planned = ask(settings, count)
    total = sum(planned.values())
    click.echo(
        f"{'Would discard' if dry_run else 'Discarding'} {counted(total, 'dead letter')}"
        if total
        else "No dead letters match.",
        err=as_json,
    )
    for name, letters in planned.items():
        click.echo(f"  {name}: {letters:,}", err=as_json)
    if dry_run or not total:
        if as_json:
            print_json({"planned": planned, "discarded": None})
        return
    confirm(f"Discard {counted(total, 'dead letter')} for good?", yes=yes)
    discarded = _discard(settings, chosen, planned)
    if as_json:
        print_json({"planned": planned, "discarded": discarded})
        return
    click.echo(f"Discarded {counted(sum(discarded.values()), 'dead letter')}.")


def _discard(config: Config, chosen: Chosen, planned: dict[str, int]) -> dict[str, int]:
    file = dead_letter_file(config)
    return run_showing(
        config,
        lambda client, done: DeadLetters(client, file, archive_of(config)).discard(
            chosen, planned, user=user(), done=done
        ),
        "dead letters",
        sum(planned.values()),
    )
