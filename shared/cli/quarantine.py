"""`headrace quarantine`: the requests that no adapter could read, and why."""

import click

from shared.cli.names import check_narrowing
from shared.cli.output import (
    ask,
    config_option,
    json_option,
    print_json,
    print_table,
    running_config,
    seconds,
)
from shared.cli.parameters import Moment, limit_option, span, span_options
from shared.store.client import RedisClient
from shared.store.records import QuarantineView, Records


@click.command("quarantine")
@limit_option
@click.option("--source", help="Only those of this source.")
@span_options("came in")
@config_option
@json_option
def command(
    limit: int,
    source: str | None,
    since: Moment | None,
    until: Moment | None,
    config: str | None,
    as_json: bool,
) -> None:
    """List requests that no adapter could read, newest first, with the reason."""

    async def read(client: RedisClient) -> tuple[int, list[QuarantineView]]:
        records = Records(client)
        within = span(since, until, await records.now_ms())
        return await records.in_quarantine(), await records.quarantined(within, source, limit)

    settings = running_config(config)
    count, found = ask(settings, read)
    if not found:
        check_narrowing(settings, source)
    if as_json:
        print_json({"count": count, "quarantined": found})
    elif not found:
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
