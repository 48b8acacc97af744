"""`headrace export`: writes events to files, one a month, and verifies that such files are as they were
written.
"""

from pathlib import Path
from typing import Any

import click
import msgspec

from shared.archive.search import Search
from shared.cli import config_option, json_option
from shared.cli.consent import progress
from shared.cli.names import check_narrowing
from shared.cli.printing import print_json, print_table
from shared.cli.running import ask, running_config
from shared.cli.searching import search, search_options
from shared.errors import ArchiveUnavailable, CommandFailed, ExportFailed, StoreUnavailable
from shared.operations.export_files import Checked, verify
from shared.operations.exports import exports_of
from shared.settings import Config
from shared.store.client import RedisClient
from shared.store.clock import now_ms
from shared.store.records import Records
from shared.store.walk import Span

FILE = click.Path(path_type=Path)


@click.command("export")
@click.argument("files", metavar="[FILE]...", nargs=-1, type=FILE)
@search_options
@click.option("--to", type=FILE, metavar="FILE", help="Where to: exports/headrace.jsonl.gz.")
@click.option("--verify", "verifying", is_flag=True, help="Check the FILEs of an export instead.")
@config_option
@json_option
def command(
    files: tuple[Path, ...],
    to: Path | None,
    verifying: bool,
    config: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Write what came in --since … --until to files, oldest first, as lines of JSON, with all payloads.

    Each month (UTC) has a file of its own: --to exports/headrace.jsonl.gz makes headrace-2026-11.jsonl.gz and
    so on there, packed if the name ends with .gz. Each ends with a digest that covers the file of the month
    before, if that is there. --verify checks FILEs, or all months if FILE is named as for --to.
    """
    if verifying:
        given = [name for name, value in {**options, "to": to}.items() if value is not None]
        if given or not files:
            raise click.UsageError("--verify takes the FILEs of an export, and no other options")
        _verify(files, as_json=as_json)
        return
    if files or to is None or options["since"] is None:
        raise click.UsageError("say from when on and where to: --since WHEN --to FILE; or --verify FILE")
    settings = running_config(config)
    written, wanted, quarantined = _export(settings, to, options)
    if as_json:
        print_json({"files": written})
        return
    if not written:
        check_narrowing(settings, options["source"], options["type"])
        click.echo("No events match: nothing is written.")
    else:
        _print(written)
        click.echo("\nNote the last digest elsewhere: it covers all files before it.")
    if quarantined and not wanted.narrowed:
        click.echo(
            "Requests of this time are in quarantine, and not in these files (headrace quarantine).", err=True
        )


def _export(config: Config, to: Path, options: dict[str, Any]) -> tuple[list[Checked], Search, bool]:
    """Write the files. Returns them, what they hold, and whether requests of this span are in quarantine."""
    written: list[Checked] = []

    async def write(client: RedisClient) -> tuple[Search, bool]:
        now = await now_ms(client)
        wanted = search(now, **options)
        wanted = msgspec.structs.replace(wanted, until_ms=min(wanted.until_ms, now))
        if wanted.since_ms > wanted.until_ms:
            raise click.UsageError("the span ends before it begins")
        with progress("events", None) as show:
            async for each in exports_of(client, config).run(wanted, to, show):
                written.append(each)
        span = Span(wanted.since_ms, wanted.until_ms)
        return wanted, bool(await Records(client).quarantined(span, wanted.source, 1))

    try:
        wanted, quarantined = ask(config, write)
    except (StoreUnavailable, ArchiveUnavailable, ExportFailed) as error:
        if not written:
            raise
        raise CommandFailed(
            f"{error}. Whole until then: {', '.join(each.file for each in written)}"
        ) from None
    return written, wanted, quarantined


def _verify(files: tuple[Path, ...], *, as_json: bool) -> None:
    checked = []
    with progress("files", None) as show:
        for each in verify(list(files)):
            checked.append(each)
            show(len(checked))
    if as_json:
        print_json({"files": checked})
        return
    _print(checked)
    click.echo("\nAll are as they were written, if the last digest is the one that was noted.")


def _print(files: list[Checked]) -> None:
    print_table(
        ["FILE", "EVENTS", "DUPLICATES", "DIGEST"],
        [
            [each.file, f"{each.seal.events:,}", f"{each.seal.duplicates:,}", each.seal.digest]
            for each in files
        ],
    )
