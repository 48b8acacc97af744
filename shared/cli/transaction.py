"""`headrace transaction PROVIDER ID`: what happened to one transaction, and where it stands."""

import click

from shared.cli import config_option, json_option
from shared.cli.printing import plain, print_fields, print_json, print_table
from shared.cli.running import ask, running_config
from shared.cli.wording import amount, copies_suppressed, counted, seconds
from shared.errors import CommandFailed
from shared.event.timeline import Happened, Sum, Timeline, TimelineStep, timeline
from shared.operations.events import events_of
from shared.providers import ADAPTERS
from shared.settings import Config
from shared.store.client import RedisClient

RECEIVED = "*"


@click.command("transaction")
@click.argument("provider", type=click.Choice(sorted(ADAPTERS)))
@click.argument("transaction", metavar="ID")
@click.option("--source", help="The source, for a provider whose sources have transactions of their own.")
@config_option
@json_option
def command(provider: str, transaction: str, source: str | None, config: str | None, as_json: bool) -> None:
    """Show the timeline of transaction ID of PROVIDER, over all of its sources.

    ID is the event's `transaction_id`; with Trustap it includes the family: basic_tx/25992. Sources of
    standard-webhooks never share a transaction: if there are several, name one with --source. An event that
    came late is marked, and never moves a final status back.
    """
    settings = running_config(config)
    source = source_of(settings, provider, source)

    async def read(client: RedisClient) -> list[Happened]:
        return await events_of(client, settings).transaction(provider, transaction, source)

    events = ask(settings, read)
    if not events:
        whose = provider if source is None else f"source {source}"
        raise CommandFailed(
            f"no event of {whose}'s transaction {plain(transaction)} is here: none came in, or retention"
            " (retention.events) has removed them"
        )
    found = timeline(events, ADAPTERS[provider].lifecycle)
    if as_json:
        about = {"provider": provider} if source is None else {"provider": provider, "source": source}
        print_json(about | {"transaction_id": transaction, "timeline": found})
        return
    _print(provider, source, transaction, found)


def source_of(config: Config, provider: str, given: str | None) -> str | None:
    """Return which source's transaction is meant; None for a provider whose sources share theirs.

    Raises: UsageError, naming the sources that there are.
    """
    if not ADAPTERS[provider].transactions_per_source:
        if given is not None:
            raise click.UsageError(f"--source: the sources of {provider} share their transactions")
        return None
    names = [source.name for source in config.sources if source.provider == provider]
    if given is not None:
        # The source may have left the configuration: its events are still kept.
        return given
    if len(names) != 1:
        which = f"one of {', '.join(sorted(names))}" if names else "the configuration has none"
        raise click.UsageError(f"each source of {provider} has its own transactions: say --source ({which})")
    return names[0]


def _print(provider: str, source: str | None, transaction: str, found: Timeline) -> None:
    print_fields(
        [
            ("transaction", transaction),
            ("provider", provider),
            *([("source", source)] if source is not None else []),
            ("status", f"{found.status or 'not said'}{' (final)' if found.final else ''}"),
            ("received", _sum(found.received)),
            ("paid out", _sum(found.paid_out)),
            ("refunded", _sum(found.refunded)),
            ("held", amount(found.held)),
        ]
    )
    click.echo()
    print_table(
        ["EVENT / WHEN (UTC)", "TYPE / SOURCE", "MONEY / PAYMENT", "STATUS", "NOTES"],
        [
            [
                f"{step.event.id}\n{seconds(step.at)}{'' if step.occurred else RECEIVED}",
                f"{step.event.type}\n{step.event.source}",
                f"{amount(step.event.money) or ''}\n{step.event.payment_id or ''}",
                step.stands,
                _notes(step),
            ]
            for step in found.steps
        ],
    )
    if not all(step.occurred for step in found.steps):
        click.echo(f"\n{RECEIVED} when it came in: the provider does not say when it happened")


def _sum(sum: Sum) -> str:
    said = ", ".join(amount(money) or "" for money in sum.amounts)
    if not sum.unsaid:
        return said or "–"
    unsaid = f"{counted(sum.unsaid, 'amount')} not said"
    return f"{said} and {unsaid}" if said else unsaid


def _notes(step: TimelineStep) -> str:
    event, notes = step.event, []
    if step.late:
        notes.append("late")
    if event.status is None and event.provider_event:
        notes.append(event.provider_event)
    if event.copy_of:
        notes.append("a copy, admitted by hand")
    if event.copies:
        notes.append(copies_suppressed(event.copies, event.differing))
    return "\n".join(notes)
