"""`headrace secret`: make a signing secret for a target."""

import click

from shared.signing import new_secret


@click.command("secret")
def command() -> None:
    """Make a signing secret for a target: put it into the configuration and give it to the receiver."""
    click.echo(new_secret())
