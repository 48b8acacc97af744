"""Plays the demo: sends the samples by HTTP as providers do, and shows what became of them."""

import asyncio
import http.client
import json
import secrets
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from shared.config.file import read_config
from shared.demo.samples import Sample, fresh_samples
from shared.errors import CommandFailed
from shared.event.money import as_text
from shared.http.authority import join_authority
from shared.providers import make_adapter
from shared.providers.base import AnyAdapter
from shared.settings import Config
from shared.store.address import parse_address
from shared.store.client import RedisClient
from shared.store.deliveries import Deliveries
from shared.store.records import Records
from shared.store.views import CopyView, DeliveryView, EventView, Kept

SETTLED_WITHIN_S = 30.0
SENT_TWICE_EVERY = 4


class Sent(msgspec.Struct, frozen=True):
    """A request of the demo: the sample, the status it was answered with, and its receipt."""

    sample: Sample
    status: int
    receipt: str
    again: bool


class Seen(msgspec.Struct, frozen=True):
    """What became of a request."""

    kept: Kept | None
    deliveries: list[DeliveryView]

    @property
    def settled(self) -> bool:
        """Whether nothing more will happen to it."""
        return isinstance(self.kept, CopyView) or (
            isinstance(self.kept, EventView) and all(row.state == "done" for row in self.deliveries)
        )


def play(console: Console, path: Path, *, host: str, port: int, receiver_port: int) -> None:
    """Send every sample, some twice; wait until all are delivered; show them, and what to try next.

    Raises: CommandFailed; OSError if the ingress does not answer.
    """
    config = read_config(path)
    adapters = {settings.provider: make_adapter(settings) for settings in config.sources}
    samples = fresh_samples()
    sent: list[Sent] = []
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        for number, sample in enumerate(track(samples, "providers send …", console=console, transient=True)):
            sent.append(_send(connection, adapters[sample.provider], sample))
            if number % SENT_TWICE_EVERY == 0:
                sent.append(_send(connection, adapters[sample.provider], sample, again=True))
    finally:
        connection.close()
    seen = asyncio.run(_watch(config, [request.receipt for request in sent]))
    _print(console, _table(sent, seen))
    console.print(_totals(sent, seen))
    next_steps = _next_steps(adapters["trustshare"], path, host, port, receiver_port)
    console.print(next_steps, highlight=False, soft_wrap=True)


def _send(
    connection: http.client.HTTPConnection, adapter: AnyAdapter, sample: Sample, *, again: bool = False
) -> Sent:
    proof = adapter.credential_headers(sample.body, id=f"msg_{secrets.token_hex(8)}", now=time.time())
    headers = {"content-type": "application/json", **dict(proof)}
    connection.request("POST", f"/webhooks/{adapter.paths()[0]}", sample.body, headers)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise CommandFailed(f"{sample.provider}/{sample.name} was answered {answer.status}")
    return Sent(sample, answer.status, json.loads(content)["id"], again)


async def _watch(config: Config, receipts: list[str]) -> dict[str, Seen]:
    """Return what became of each request, once all are settled or time is up."""
    client = RedisClient(parse_address(config.redis.url, config.redis.prefix), timeout_s=5.0)
    records, deliveries = Records(client), Deliveries(client)
    sources = [source.name for source in config.sources]
    seen: dict[str, Seen] = {}
    deadline = time.monotonic() + SETTLED_WITHIN_S
    try:
        while len(seen) < len(receipts) or not all(look.settled for look in seen.values()):
            for receipt in receipts:
                if receipt not in seen or not seen[receipt].settled:
                    kept = await records.find(receipt, sources)
                    rows = await deliveries.of_event(receipt) if isinstance(kept, EventView) else None
                    seen[receipt] = Seen(kept, rows or [])
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.1)
    finally:
        await client.close()
    return seen


def _print(console: Console, table: Table) -> None:
    """Print a table without the blanks that fill its lines."""
    with console.capture() as captured:
        console.print(table)
    for line in Text.from_ansi(captured.get()).split():
        line.rstrip()
        console.print(line, highlight=False, soft_wrap=True)


def _table(sent: list[Sent], seen: Mapping[str, Seen]) -> Table:
    # It fits into 80 columns: each provider is a heading, and long names may be broken.
    table = Table(
        title="What came in, and where it went",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("Provider's event", overflow="fold")
    table.add_column("Canonical type", no_wrap=True)
    table.add_column("Amount", justify="right", no_wrap=True)
    table.add_column("Delivered to")
    provider = ""
    for request in sent:
        if request.sample.provider != provider:
            provider = request.sample.provider
            table.add_row(f"[bold]{provider}[/bold]")
        look = seen[request.receipt]
        type_ = amount = where = ""
        if isinstance(look.kept, EventView):
            type_ = look.kept.type
            amount = as_text(look.kept.money) if look.kept.money else ""
            where = ", ".join(_delivery(row) for row in look.deliveries) or "[dim]nobody (recorded)[/dim]"
        elif isinstance(look.kept, CopyView):
            type_, where = "[dim]duplicate[/dim]", "[dim]not again[/dim]"
        else:
            where = f"[red]{look.kept.__struct_config__.tag if look.kept else 'not found'}[/red]"
        name = "[dim]   sent again[/dim]" if request.again else f" {request.sample.name}"
        table.add_row(name, type_, amount, where)
    return table


def _delivery(row: DeliveryView) -> str:
    if row.state != "done":
        return f"[yellow]{row.target} ({row.state})[/yellow]"
    tries = len(row.attempts)
    return f"[green]{row.target}[/green]" + (f" (try {tries})" if tries > 1 else "")


def _totals(sent: list[Sent], seen: Mapping[str, Seen]) -> str:
    copies = sum(isinstance(look.kept, CopyView) for look in seen.values())
    rows = [row for look in seen.values() for row in look.deliveries]
    done = sum(row.state == "done" for row in rows)
    return (
        f"[bold]{len(sent)}[/bold] requests, all answered 200: [bold]{len(sent) - copies}[/bold] events and"
        f" {copies} duplicates. [bold]{done}[/bold] of {len(rows)} deliveries done,"
        " each signed and its signature checked by the receiver.\n"
    )


def _next_steps(adapter: AnyAdapter, path: Path, host: str, port: int, receiver_port: int) -> str:
    token = secrets.token_hex(8)
    body = json.dumps(
        {
            "type": "payment_received",
            "from": "buyer@example.com",
            "to": "seller@example.com",
            "token": token,
            "paymentToken": secrets.token_hex(8),
            "currency": "gbp",
            "amount": 150000,
        }
    )
    proof = adapter.credential_headers(body.encode(), id=f"msg_{token}", now=time.time())
    headers = [("content-type", "application/json"), *proof]
    flags = " ".join(f"-H {shlex.quote(f'{name}: {value}')}" for name, value in headers)
    url = f"http://{join_authority(host, port)}/webhooks/{adapter.paths()[0]}"
    curl = f"curl {flags} -d {shlex.quote(body)} {url}"
    headrace = Path(sys.executable).parent / "headrace"
    where = headrace.relative_to(Path.cwd()) if headrace.is_relative_to(Path.cwd()) else headrace
    return (
        "[bold]Try next[/bold] (in another terminal, in this folder)\n"
        f"  send an event as trustshare does:   {curl}\n"
        f"  see what came in:                   {where} events\n"
        f"  where did it go, and why not:       {where} deliveries EVENT\n"
        f"  what each provider must be given:   {where} check --show-secrets\n"
        f"  the processes' logs:                {path.parent.relative_to(Path.cwd())}/logs\n"
        f"  start a configuration of your own:  cp {path.relative_to(Path.cwd())} headrace.toml\n"
        f"  run it, once this is stopped:       {where} up --receiver {receiver_port}\n\n"
        "Running. Ctrl-C stops everything; what came in is kept for the next run."
    )
