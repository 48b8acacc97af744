"""`headrace targets`: the state of each target; pausing, disabling, enabling, testing and removing one."""

import asyncio
import json
import time

import click
import msgspec

from shared.cli import config_option, json_option
from shared.cli.consent import confirm, user
from shared.cli.names import check_target, no_such
from shared.cli.printing import plain, print_json, print_table
from shared.cli.running import ask, running_config
from shared.cli.wording import counted, seconds
from shared.delivery.outgoing import Outgoing
from shared.delivery.verdicts import succeeded
from shared.errors import CommandFailed, EgressError
from shared.event.canonical import Event
from shared.event.ids import event_id
from shared.event.record import EventRecord, attributes_of, data_of
from shared.event.times import rfc3339_ms
from shared.event.types import TEST_PROVIDER, TEST_TYPE
from shared.http import Egress
from shared.operations.disk import counts_of, dead_letter_file
from shared.routing.redactions import Redactions
from shared.settings import Config, Target
from shared.store.client import RedisClient
from shared.store.lanes import Lanes
from shared.store.letters import Letters
from shared.store.shares import Shares
from shared.store.targets import State, Targets, TargetView


@click.group("targets", invoke_without_command=True)
@config_option
@json_option
@click.pass_context
def command(ctx: click.Context, config: str | None, as_json: bool) -> None:
    """List the targets: state, backlog, breaker, success rate; or change one."""
    if ctx.invoked_subcommand is not None:
        return
    settings = running_config(config)
    names = [target.name for target in settings.targets]

    async def read(client: RedisClient) -> list[TargetView]:
        targets = Targets(client)
        removed = [name for name in await targets.on_record() if name not in names]
        views = await targets.views([*names, *removed])
        on_disk = await counts_of(Letters(client), dead_letter_file(settings))
        past = (await Shares(client).verdict()).targets
        return [
            msgspec.structs.replace(
                view, on_disk=on_disk.get(view.name, 0), past_share=past.get(view.name, "")
            )
            for view in views
        ]

    views = ask(settings, read)
    if as_json:
        print_json({"targets": [_fields(view, configured=view.name in names) for view in views]})
    elif not views:
        click.echo("No targets are configured.")
    else:
        print_table(
            ["TARGET", "STATE", "WAITING", "IN FLIGHT", "DEAD", "SUCCESS", "LAST ERROR"],
            [_row(view, configured=view.name in names) for view in views],
        )


def _fields(view: TargetView, *, configured: bool) -> dict[str, object]:
    return {
        **msgspec.to_builtins(view),
        "breaker": view.breaker,
        "success_rate": view.success_rate,
        "configured": configured,
    }


def _row(view: TargetView, *, configured: bool) -> list[str | None]:
    state = view.state if configured else "removed"
    if view.reason:
        state += f"\n{view.reason}"
    if view.breaker == "open":
        state += f"\nbreaker open: probe in {view.probe_in_s:.0f} s"
    elif view.breaker == "half-open":
        state += "\nbreaker open: probing"
    if view.past_share:
        state += f"\n{view.past_share}"
    dead = f"{view.dead_letters:,}"
    if view.on_disk:
        dead += f"\n{view.on_disk:,} on disk"
    waiting = f"{view.backlog:,}"
    if view.held:
        waiting += f"\n{view.held:,} held"
    if view.oldest_wait_s:
        waiting += f"\noldest {_span(view.oldest_wait_s)}"
    rate = None if view.success_rate is None else f"{view.success_rate:.1%}"
    return [
        *(view.name, state, waiting, f"{view.in_flight:,}", dead, rate, view.last_error),
    ]


def _span(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _target(config: Config, name: str) -> Target:
    check_target(config, name)
    return next(target for target in config.targets if target.name == name)


def _change(
    name: str, state: State, said: str, config: str | None, *, as_json: bool, reason: str = ""
) -> None:
    settings = running_config(config)
    check_target(settings, name)

    async def change(client: RedisClient) -> TargetView:
        targets = Targets(client)
        await targets.set_state(name, state, reason, user=user())
        [view] = await targets.views([name])
        return view

    view = ask(settings, change)
    if as_json:
        print_json(_fields(view, configured=True))
        return
    backlog = counted(view.backlog, "delivery", "deliveries")
    click.echo(f"{name} is {view.state}: {said.format(backlog=backlog, going=_going(view))}")


def _going(view: TargetView) -> str:
    """Print how many of a target's deliveries go out now, and until when the rest waits."""
    text = f"{counted(view.due_now, 'delivery goes', 'deliveries go')} out now"
    later = view.backlog - view.due_now
    if later and view.next_attempt_ms is not None:
        first = seconds(rfc3339_ms(view.next_attempt_ms))
        waits = "waits for its next attempt, due" if later == 1 else "wait for their next attempts, the first"
        text += f", {later:,} {waits} {first} (now: headrace retry --target {view.name})"
    if view.held:
        text += f", {view.held:,} {'is' if view.held == 1 else 'are'} held behind dead letters"
    return text


@command.command("pause")
@click.argument("name")
@click.option("--reason", default="paused by hand", show_default=True)
@config_option
@json_option
def pause(name: str, reason: str, config: str | None, as_json: bool) -> None:
    """Send nothing, and keep all that comes (for 7 days)."""
    said = "{backlog} waiting, and what comes is kept for 7 days"
    _change(name, State.PAUSED, said, config, as_json=as_json, reason=reason)


@command.command("resume")
@click.argument("name")
@config_option
@json_option
def resume(name: str, config: str | None, as_json: bool) -> None:
    """Go on after a pause."""
    _change(name, State.ACTIVE, "{going}", config, as_json=as_json)


@command.command("disable")
@click.argument("name")
@click.option("--reason", default="disabled by hand", show_default=True)
@config_option
@json_option
def disable(name: str, reason: str, config: str | None, as_json: bool) -> None:
    """Send nothing; what waits and what comes become dead letters."""
    said = "{backlog} become dead letters, and so does what comes"
    _change(name, State.DISABLED, said, config, as_json=as_json, reason=reason)


@command.command("enable")
@click.argument("name")
@config_option
@json_option
def enable(name: str, config: str | None, as_json: bool) -> None:
    """Use a disabled target again; its dead letters stay until they are replayed."""
    said = "{going}; dead letters: headrace replay --dead-letters " + name
    _change(name, State.ACTIVE, said, config, as_json=as_json)


@command.command("remove")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
@json_option
def remove(name: str, yes: bool, config: str | None, as_json: bool) -> None:
    """Remove a target that left the configuration; what waits for it becomes dead letters."""
    settings = running_config(config)
    configured = [target.name for target in settings.targets]
    if name in configured:
        raise CommandFailed(f"{name} is in the configuration: take it out first")

    async def backlog(client: RedisClient) -> int | None:
        targets = Targets(client)
        [view] = await targets.views([name])
        if name in await targets.on_record() or view.backlog or view.in_flight or view.dead_letters:
            await Lanes(client).find(name)
            return view.backlog + (await Lanes(client).held([name]))[name]
        return None

    async def let_go(client: RedisClient) -> int:
        return await Targets(client).remove(name, user=user())

    count = ask(settings, backlog)
    if count is None:
        raise no_such("target", name, {*configured, *ask(settings, _on_record)})
    waiting = counted(count, "delivery", "deliveries")
    confirm(f"{waiting} for {name} become dead letters. Go on?", yes=yes)
    made = ask(settings, let_go)
    if as_json:
        print_json({"removed": name, "dead_letters": made})
    else:
        click.echo(f"{name} is removed: {counted(made, 'dead letter')} made")


async def _on_record(client: RedisClient) -> list[str]:
    return await Targets(client).on_record()


@command.command("test")
@click.argument("name")
@click.option("--show-secrets", is_flag=True, help="Show the path and the target's own headers.")
@config_option
@json_option
def test(name: str, show_secrets: bool, config: str | None, as_json: bool) -> None:
    """Send a signed test event now, past all queues, and show the whole exchange; with --json the answer."""
    settings = running_config(config)
    target = _target(settings, name)
    outgoing = Outgoing(settings, target, Redactions(settings, target))
    now_ms = int(time.time() * 1000)
    request = outgoing.request(_test_event(now_ms), now_ms)

    async def post() -> tuple[int, bytes, float]:
        egress = Egress()
        started = time.perf_counter()
        try:
            answer = await egress.post(outgoing.endpoint, request, target.timeout)
        finally:
            await egress.close()
        return answer.status, answer.body, time.perf_counter() - started

    if not as_json:
        _print_request(request, outgoing, show_secrets=show_secrets)
    try:
        status, said, took_s = asyncio.run(post())
    except EgressError as error:
        raise CommandFailed(f"{name} gave no answer: {error}") from None
    answer = said.decode("utf-8", "replace")
    if as_json:
        print_json({"target": name, "status": status, "took_ms": round(took_s * 1000), "answer": answer})
    else:
        click.echo(f"< {status} after {took_s * 1000:.0f} ms")
        for text in answer.splitlines():
            click.echo(f"< {plain(text)}")
    if not succeeded(status):
        raise CommandFailed(f"{name} answered {status}: only 2xx counts as delivered")


def _print_request(request: bytes, outgoing: Outgoing, *, show_secrets: bool) -> None:
    head, _, body = request.partition(b"\r\n\r\n")
    # A path may hold a secret: a receiver of webhooks often has such an URL.
    path = outgoing.endpoint.request_target.decode("ascii")
    shown_path = path if show_secrets or path == "/" else "/… (all of it: --show-secrets)"
    click.echo(f"> POST {outgoing.endpoint.origin}{shown_path}")
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b": ")
        hidden = key in outgoing.private and not show_secrets
        shown = "***" if hidden else plain(value.decode("latin-1"))
        click.echo(f"> {key.decode()}: {shown}")
    click.echo(f">\n> {body.decode()}\n")


def _test_event(now_ms: int) -> EventRecord:
    event = Event(type=TEST_TYPE, provider_event=None)
    id = event_id(TEST_PROVIDER, f"{now_ms}-0")
    return EventRecord(
        id,
        msgspec.json.encode(attributes_of(event, id=id, source=TEST_PROVIDER, received_ms=now_ms)),
        msgspec.json.encode(data_of(event, provider=TEST_PROVIDER)),
        json.dumps({"test": True}).encode(),
    )
