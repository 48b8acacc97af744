"""`headrace migrate`: what an upgrade must do to the records in Redis, if anything."""

import click

from shared.cli import config_option, json_option
from shared.cli.printing import print_json
from shared.cli.running import ask, running_config
from shared.store.layout import LAYOUT, layout_of


@click.command("migrate")
@config_option
@json_option
def command(config: str | None, as_json: bool) -> None:
    """Bring the records of an earlier version up to what this version writes.

    No version so far needs that: each reads the records of all before it.
    """
    settings = running_config(config)
    version = ask(settings, lambda client: layout_of(client, [source.name for source in settings.sources]))
    if as_json:
        print_json({"found": version or None, "written": LAYOUT})
        return
    has = f"records of layout {version}" if version else "no records"
    click.echo(f"Redis has {has}; this version reads layouts 1 to {LAYOUT}: there is nothing to migrate.")
