"""`headrace archive`: work on the archive as a whole."""

import click

from shared.archive.database import Database
from shared.archive.rotation import Rotation
from shared.cli import config_option, json_option
from shared.cli.consent import progress
from shared.cli.printing import print_json
from shared.cli.running import running_config
from shared.cli.wording import counted
from shared.errors import ArchiveUnavailable, CommandFailed


@click.group("archive")
def command() -> None:
    """Work on the archive as a whole."""


@command.command("rotate-keys")
@config_option
@json_option
def rotate_keys(config: str | None, as_json: bool) -> None:
    """Encrypt again, with the newest key, what the archive keeps under another one or under none.

    Give all workers the new key first (archive.encryption_keys, the newest first). They need not stop. Once
    this has ended, the older keys can go from the configuration. If it is stopped, run it again: it goes on
    from there.
    """
    settings = running_config(config).archive
    if not settings.url:
        raise CommandFailed("there is no archive: archive.url is not set")
    if not settings.encryption_keys:
        raise CommandFailed("archive.encryption_keys has no key to encrypt with")
    database = Database(settings.url, settings.encryption_keys)
    rotation = Rotation(database)
    done = 0
    try:
        with progress("payloads", rotation.left()) as show:

            def say(count: int) -> None:
                nonlocal done
                done = count
                show(count)

            rotation.run(say)
        left = rotation.left()
    except ArchiveUnavailable as error:
        raise CommandFailed(
            f"stopped after {counted(done, 'payload')}: {error}. Run it again for the rest"
        ) from None
    finally:
        database.close()
    if as_json:
        print_json({"rotated": done, "left": left, "unreadable": rotation.unreadable})
    else:
        click.echo(f"Encrypted {counted(done, 'payload')} with the key {database.sealer.newest}.")
    if rotation.unreadable:
        raise CommandFailed(f"{left:,} cannot be read, and stay: {next(iter(rotation.unreadable.values()))}")
    if left:
        raise CommandFailed(
            f"{counted(left, 'payload')} came under an older key meanwhile: give all workers the new one,"
            " and run this again"
        )
