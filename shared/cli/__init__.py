"""The `headrace` command: one module a subcommand, imported only when it is called."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from shared import __version__
from shared.errors import ConfigError, HeadraceError

COMMANDS = {
    "up": ("up", "command", "Run everything on one machine, until Ctrl-C."),
    "check": ("check", "command", "Check the configuration and Redis; show every provider's URL."),
    "events": ("events", "command", "List events, or show one."),
    "deliveries": ("deliveries", "command", "Show an event's deliveries and attempts."),
    "dead-letters": ("dead_letters", "command", "List deliveries that were given up."),
    "quarantine": ("quarantine", "command", "List requests that no adapter could read."),
    "admit": ("admit", "command", "Send quarantined requests through again; admit a copy by hand."),
    "transaction": ("transaction", "command", "Show what happened to one transaction."),
    "replay": ("replay", "command", "Send events again."),
    "retry": ("retry", "command", "Make due now what waits for its next attempt."),
    "export": ("export", "command", "Write events to files, a month each, and verify such files."),
    "audit": ("audit", "command", "List what operators did."),
    "hold": ("hold", "command", "Keep archived events whatever their age: list, place or lift holds."),
    "simulate": ("simulate", "command", "Play a provider against a running ingress."),
    "schema": ("schema", "command", "Print the JSON Schema of the canonical event."),
    "targets": ("targets", "command", "List targets; pause, resume, enable, disable or test one."),
    "erase": ("erase", "command", "Erase what is kept of a person."),
    "archive": ("archive", "command", "Encrypt the archive with a new key."),
    "migrate": ("migrate", "command", "Bring records of an earlier version up to this one."),
    "secret": ("secret", "command", "Make a signing secret for a target."),
    "ingress": ("processes", "ingress_command", "Run an ingress process, and again when it dies."),
    "worker": ("processes", "worker_command", "Run a worker process, and again when it dies."),
}
"""Command → the module here, the name in it, and one line of help."""


def _said(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Let an option stand before a verb or after it. If it is given twice, the last counts."""
    key = f"{__name__}.{param.name}"
    if value:
        ctx.meta[key] = value
    return ctx.meta.get(key, value)


config_option = click.option(
    "--config",
    "config",
    metavar="FILE",
    callback=_said,
    help="The configuration file (else $HEADRACE_CONFIG, else ./headrace.toml).",
)
json_option = click.option("--json", "as_json", is_flag=True, callback=_said, help="Print JSON.")


class LazyGroup(click.Group):
    """Knows its commands by name, and imports one only when it is used, so that `--help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command. Raises: NoSuchCommand, with those that are spelled alike."""
        if cmd_name not in COMMANDS:
            raise click.exceptions.NoSuchCommand(cmd_name, possibilities=COMMANDS, ctx=ctx)
        module, name, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"shared.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, _, help_) in COMMANDS.items()])

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        """Run a command, then exit: 0 all is well, 1 it failed, 2 the call or the configuration is wrong.

        Whatever is wrong is one line on standard error.
        """
        args = sys.argv[1:] if args is None else args
        if any(
            "\udc80" <= letter <= "\udcff" for letter in "".join(args)
        ):  # Python's stand-ins for odd bytes
            _fail("an argument is not UTF-8", 2)
        try:
            result = super().main(args, *rest, **options | {"standalone_mode": False})
        except click.Abort:
            _fail("stopped", 1)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.ClickException as error:
            _fail(_one_line(error), error.exit_code)
        except OSError as error:  # such as a full disk that standard output goes to
            _fail(f"stopped: {error}", 1)
        except HeadraceError as error:
            _fail(str(error), 2 if isinstance(error, ConfigError) else 1)
        sys.exit(result if isinstance(result, int) else 0)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"headrace: {' '.join(message.split())}", err=True)
    sys.exit(code)


def _one_line(error: click.ClickException) -> str:
    message = error.format_message()
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message} (see: {context.command_path} --help)" if context else message


@click.group(cls=LazyGroup)
@click.version_option(__version__, prog_name="headrace")
@config_option
@json_option
@click.pass_context
def cli(ctx: click.Context, config: str | None, as_json: bool) -> None:
    """Headrace: one intake for payment providers' webhooks, one clean stream out."""
    if as_json and ctx.invoked_subcommand is not None:
        command = cli.get_command(ctx, ctx.invoked_subcommand)
        if command is not None and not any(param.name == "as_json" for param in command.params):
            raise click.UsageError(f"--json: {command.name} prints no JSON")


def main() -> None:
    """Run the command line."""
    cli(prog_name="headrace")
