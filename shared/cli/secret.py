"""`headrace secret`: make a signing secret for a target."""

import click

from shared.cli.printing import print_fields
from shared.delivery.signing import new_asymmetric_secret, new_secret, signing_key
from shared.secrets import Secret


@click.command("secret")
@click.option("--asymmetric", is_flag=True, help="Make a key pair: the receiver can verify, and not sign.")
def command(asymmetric: bool) -> None:
    """Make a signing secret for a target: put it into the configuration and give it to the receiver.

    With --asymmetric, the receiver is given the public key only.
    """
    if not asymmetric:
        click.echo(new_secret())
        return
    secret = new_asymmetric_secret()
    print_fields([("secret", secret), ("public key", signing_key(Secret(secret)).public)])
