"""`headrace up`: everything on one machine, until Ctrl-C."""

import http.client
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import click
import structlog
from rich.console import Console

from shared.cli import config_option
from shared.cli.processes import ingress_child, say_listening, worker_child
from shared.cli.wording import counted
from shared.config.file import find_config, is_embedded, read_config
from shared.config.reload import is_empty
from shared.errors import CommandFailed
from shared.http.authority import reachable
from shared.process import logs
from shared.process.embedded import EmbeddedRedis
from shared.process.folder import data_folder
from shared.process.listening import listen
from shared.process.supervisor import Child, Supervisor

log = structlog.get_logger()

READY_WITHIN_S = 30.0
PIPE_COLUMNS = 160


@click.command("up")
@config_option
@click.option("--host", help="Listen here instead of ingress.host.")
@click.option("--port", type=click.IntRange(1, 65535), help="Listen here instead of ingress.port.")
@click.option(
    "--ingress", type=click.IntRange(1), default=1, show_default=True, help="How many ingress processes."
)
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="How many worker processes."
)
@click.option(
    "--receiver",
    metavar="PORT",
    type=click.IntRange(1, 65535),
    help="Also run the demo's receiver, on this port of 127.0.0.1.",
)
def command(
    config: str | None, host: str | None, port: int | None, ingress: int, workers: int, receiver: int | None
) -> None:
    """Run Redis (if the configuration says "embedded"), ingress and workers until Ctrl-C.

    Without a configuration it runs a demo: a source for each provider, a receiver of its own, and the
    providers' sample events played through.
    """
    path = find_config(config)
    if path is None:
        sys.exit(run_demo(host or "127.0.0.1", port or 8000, ingress, workers, receiver or 0))
    settings = read_config(path)
    empty = is_empty(settings)
    logs.configure("supervisor")
    listener = listen(host or settings.ingress.host, port or settings.ingress.port)
    receiving = listen("127.0.0.1", receiver) if receiver else None
    supervisor = Supervisor()
    try:
        start_redis(supervisor, path)
        say_listening(listener)
        if receiving:
            supervisor.start(receiver_child(path, receiving))
        supervisor.start(
            *(ingress_child(path, listener, number=i + 1, may_be_empty=empty) for i in range(ingress)),
            *(worker_child(path, number=i + 1, may_be_empty=empty) for i in range(workers)),
        )
        code = supervisor.run()
    finally:
        supervisor.stop()
    log.info("stopped")
    sys.exit(code)


def start_redis(supervisor: Supervisor, config: Path) -> None:
    """Start the embedded Redis of a configuration, if it asks for one. Raises: CommandFailed."""
    if is_embedded(config):
        redis = EmbeddedRedis(data_folder(config))
        # The server inherits the lock, so the folder stays locked until it has ended, even if we die first.
        output = str(redis.folder / "redis.log")
        supervisor.start(Child("redis", redis.argv, pass_fds=(redis.lock.fileno(),), output=output))


def receiver_child(config: Path, listener: socket.socket, *, output: str | None = None) -> Child:
    """Return the demo's receiver, which reads the targets' secrets from the configuration."""
    fd = listener.fileno()
    argv = [sys.executable, "-m", "shared.demo.receiver", "--config", str(config), "--fd", str(fd)]
    return Child("receiver", argv, pass_fds=(fd,), output=output)


def run_demo(host: str, port: int, ingress: int, workers: int, receiver_port: int) -> int:
    """Run the demo until Ctrl-C. Returns the exit code."""
    from shared.demo.setup import write_demo
    from shared.demo.show import play

    # In a pipe or a file, lines may be long: each row of the table is one line.
    in_pipe = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    console = Console(width=PIPE_COLUMNS if in_pipe else None)
    listener, receiver = listen(host, port), listen("127.0.0.1", receiver_port)
    receiver_port = receiver.getsockname()[1]
    path = write_demo(host=host, port=port, receiver_port=receiver_port)
    log_folder = path.parent / "logs"
    log_folder.mkdir(exist_ok=True)

    def log(name: str) -> str:
        return str(log_folder / f"{name}.log")

    with open(log("supervisor"), "a", encoding="utf-8") as own_log:
        logs.configure("supervisor", own_log)
    failed = threading.Event()

    def say(text: str) -> None:
        with suppress(OSError):  # the terminal may be gone
            console.print(text)

    def show() -> None:
        try:
            wait_until_ready(host, port)
            play(console, path, host=reachable(host), port=port, receiver_port=receiver_port)
        except Exception as error:
            say(f"[red]headrace: the demo failed: {error}[/red] (logs: {log_folder})")
            failed.set()

    supervisor = Supervisor()
    try:
        say(f"[bold]Headrace[/bold] starts: Redis, ingress, {counted(workers, 'worker')}, a demo receiver …")
        start_redis(supervisor, path)
        supervisor.start(receiver_child(path, receiver, output=log("receiver")))
        supervisor.start(
            *(
                ingress_child(path, listener, number=i + 1, output=log(f"ingress-{i + 1}"))
                for i in range(ingress)
            ),
            *(worker_child(path, number=i + 1, output=log(f"worker-{i + 1}")) for i in range(workers)),
        )
        threading.Thread(target=show, name="demo", daemon=True).start()
        code = supervisor.run(until=failed.is_set) or int(failed.is_set())
    finally:
        say("\nstopping …")
        console.quiet = True  # the demo may still be reading Redis, which stops now
        supervisor.stop()
    with suppress(OSError):
        click.echo("stopped")
    return code


def wait_until_ready(host: str, port: int) -> None:
    """Wait until the ingress takes events. Raises: CommandFailed if it does not."""
    deadline = time.monotonic() + READY_WITHIN_S
    reason = "no answer"
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(reachable(host), port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            if answer.status == 200:
                return
            reason = answer.read().decode(errors="replace")
        except OSError as error:
            reason = str(error)
        finally:
            connection.close()
        time.sleep(0.1)
    raise CommandFailed(f"ingress was not ready within {READY_WITHIN_S:.0f} s: {reason}")
