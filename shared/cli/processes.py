"""`headrace ingress` and `headrace worker`: the processes of a fleet, each kept running."""

import os
import socket
import sys
from pathlib import Path

import click
import structlog

from shared.cli import config_option
from shared.config.file import find_config, given, read_config
from shared.config.reload import is_empty
from shared.http.authority import join_authority
from shared.process import logs
from shared.process.listening import listen
from shared.process.supervisor import Child, Supervisor
from shared.settings import Config

log = structlog.get_logger()


def say_listening(listener: socket.socket) -> None:
    """Log where requests are taken."""
    host, port = listener.getsockname()[:2]
    log.info("listening", url=f"http://{join_authority(host, port)}")


def ingress_child(
    config: Path,
    listener: socket.socket,
    *,
    number: int = 1,
    output: str | None = None,
    may_be_empty: bool = False,
) -> Child:
    """Return an ingress process that accepts from `listener`. See `_arguments` for `may_be_empty`."""
    fd = listener.fileno()
    argv = [*_arguments("ingress", config, may_be_empty), "--fd", str(fd)]
    return Child(f"ingress-{number}", argv, pass_fds=(fd,), output=output, reloads=True)


def worker_child(
    config: Path, *, number: int = 1, output: str | None = None, may_be_empty: bool = False
) -> Child:
    """Return a worker process. See `_arguments` for `may_be_empty`."""
    name = f"worker-{number}"
    argv = [*_arguments("workers", config, may_be_empty), "--name", name]
    return Child(name, argv, output=output, reloads=True)


def _arguments(module: str, config: Path, may_be_empty: bool) -> list[str]:
    """Return the command line of a process.

    Unless the file had neither sources nor targets from the first (`may_be_empty`), a process that is started
    again while an editor has emptied it must not run so: it would know no source, and another Redis.
    """
    return [
        *(sys.executable, "-m", module, "--config", str(config)),
        *(["--may-be-empty"] if may_be_empty else []),
    ]


def keep_running(*children: Child) -> int:
    """Run children until told to stop. Returns the exit code."""
    supervisor = Supervisor()
    try:
        supervisor.start(*children)
        return supervisor.run()
    finally:
        supervisor.stop()


def _load(option: str | None) -> tuple[Path, Config]:
    path = given(find_config(option))
    return path, read_config(path)


@click.command("ingress")
@config_option
@click.option("--host", help="Listen here instead of ingress.host.")
@click.option("--port", type=click.IntRange(1, 65535), help="Listen here instead of ingress.port.")
@click.option(
    "--processes", type=click.IntRange(1), default=1, show_default=True, help="How many, on one port."
)
def ingress_command(config: str | None, host: str | None, port: int | None, processes: int) -> None:
    """Take requests from providers; started again when it dies."""
    path, settings = _load(config)
    logs.configure("supervisor")
    listener = listen(host or settings.ingress.host, port or settings.ingress.port)
    say_listening(listener)
    empty = is_empty(settings)
    sys.exit(
        keep_running(
            *(
                ingress_child(path, listener, number=number + 1, may_be_empty=empty)
                for number in range(processes)
            )
        )
    )


@click.command("worker")
@config_option
@click.option(
    "--processes",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help=f"How many; one fills one core, and this machine has {os.cpu_count()}.",
)
def worker_command(config: str | None, processes: int) -> None:
    """Admit and deliver events; started again when it dies."""
    path, settings = _load(config)
    logs.configure("supervisor")
    empty = is_empty(settings)
    sys.exit(
        keep_running(
            *(worker_child(path, number=number + 1, may_be_empty=empty) for number in range(processes))
        )
    )
