"""`headrace dead-letters`: the deliveries that were given up."""

import click

from shared.cli.deliveries import given_up
from shared.cli.names import no_such
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
from shared.cli.parameters import Moment, limit_option, span, span_options
from shared.store.client import RedisClient
from shared.store.deliveries import DeadLetter, Deliveries
from shared.store.records import Records


@click.command("dead-letters")
@click.option("--target", help="Only those of this target.")
@limit_option
@span_options("was given up")
@config_option
@json_option
def command(
    target: str | None,
    limit: int,
    since: Moment | None,
    until: Moment | None,
    config: str | None,
    as_json: bool,
) -> None:
    """List deliveries that were given up, the latest first, and how many each target has."""
    settings = running_config(config)
    configured = [each.name for each in settings.targets]
    targets = configured if target is None else [target]

    async def read(client: RedisClient) -> tuple[dict[str, int], list[DeadLetter]]:
        deliveries = Deliveries(client)
        within = span(since, until, await Records(client).now_ms())
        return await deliveries.dead_counts(targets), await deliveries.dead_letters(targets, within, limit)

    counts, letters = ask(settings, read)
    # One that left the configuration may have dead letters still.
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
                    letter.target,
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
