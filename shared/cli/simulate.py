"""`headrace simulate`: plays the providers, who cannot be asked to send tests, against a running ingress."""

import itertools
import sys
import time
from random import Random
from typing import Any
from urllib.parse import urlsplit

import click

from shared.cli import config_option, json_option
from shared.cli.consent import progress
from shared.cli.printing import print_fields, print_json, print_table
from shared.cli.running import running_config
from shared.cli.wording import counted
from shared.errors import CommandFailed
from shared.http.authority import join_authority, reachable
from shared.nearest import nearest_first
from shared.providers import make_adapter, simulations
from shared.providers.base import AnyAdapter
from shared.providers.scenarios import Scenario
from shared.settings import Config
from shared.simulation.plan import Chances, Plan, check_playable
from shared.simulation.sending import Sending
from shared.simulation.summary import Summary, Tally

_SHARE = click.FloatRange(0, 1, max_open=True)


@click.command("simulate")
@click.argument("who", metavar="[PROVIDER_OR_SOURCE]", required=False)
@click.option(
    "--list", "as_list", is_flag=True, help="Describe every provider's scenarios, and send nothing."
)
@click.option("--scenario", "names", multiple=True, metavar="NAME", help="Play only this; may be repeated.")
@click.option(
    "--count", type=click.IntRange(1), default=1, show_default=True, help="Play each scenario so often."
)
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), help="Send so many requests a second at most."
)
@click.option("--duplicates", type=_SHARE, default=0.0, metavar="SHARE", help="Send this share again: 0.2.")
@click.option("--shuffle", is_flag=True, help="Send everything in an order by chance.")
@click.option(
    "--corrupt",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="SHARE",
    help="Damage this share: half a body, which ends in quarantine, or wrong credentials.",
)
@click.option(
    "--concurrency", type=click.IntRange(1, 256), default=8, show_default=True, help="Connections at once."
)
@click.option("--url", metavar="URL", help="The ingress (else ingress.host and ingress.port).")
@click.option("--seed", type=int, help="Make the same choices by chance as another run with this seed.")
@config_option
@json_option
def command(
    who: str | None,
    as_list: bool,
    names: tuple[str, ...],
    count: int,
    rate: float | None,
    duplicates: float,
    shuffle: bool,
    corrupt: float,
    concurrency: int,
    url: str | None,
    seed: int | None,
    config: str | None,
    as_json: bool,
) -> None:
    """Send a provider's events to a running ingress, with the credentials of the configuration.

    Scenarios are whole lifecycles; without --scenario all of the provider's are played. Ids and times are
    fresh in each. The targets get these events like any others.

    Ends with 1 if an answer is not the one that a request should get.
    """
    if as_list:
        _describe(who, as_json=as_json)
        return
    if who is None:
        raise click.UsageError("say which provider or source to play, or --list")
    settings = running_config(config)
    adapters = _adapters(settings, who)
    provider = adapters[0].provider
    plan = Plan(
        adapters,
        _chosen(adapters, names),
        simulations()[provider].write,
        Chances(duplicates=duplicates, corrupt=corrupt, shuffle=shuffle),
        count=count,
        random=Random(seed),  # noqa: S311 — chance, not secrets
    )
    base = _base(settings, url)
    started = time.perf_counter()
    tally = _send(plan, base, concurrency=concurrency, per_s=rate)
    summary = _summary(plan, tally, base, time.perf_counter() - started)
    if as_json:
        print_json(summary)
    else:
        _print(summary)
    if summary.unexpected:
        sys.exit(1)


def _adapters(config: Config, who: str) -> list[AnyAdapter]:
    """Return the source of this name, else all sources of the provider. Raises: CommandFailed."""
    named = [source for source in config.sources if source.name == who]
    found = named or [source for source in config.sources if source.provider == who]
    if not found:
        known = {source.name: f"{source.name} ({source.provider})" for source in config.sources}
        names = ", ".join(known[name] for name in nearest_first(who, known))
        raise click.UsageError(
            f"{who!r} is neither a source nor the provider of one; configured: {names or 'none'}"
        )
    if found[0].provider not in simulations():
        raise CommandFailed(f"there are no scenarios for the provider {found[0].provider!r}")
    return [make_adapter(source) for source in found]


def _chosen(adapters: list[AnyAdapter], names: tuple[str, ...]) -> list[Scenario]:
    """Return the scenarios of these names; without names, all that the sources can take.

    Raises: CommandFailed if that is none.
    """
    provider = adapters[0].provider
    known = {scenario.name: scenario for scenario in simulations()[provider].scenarios}
    for name in names:
        if name not in known:
            raise click.UsageError(
                f"{provider} has no scenario {name!r}; it has: {', '.join(nearest_first(name, known))}"
            )
    if names:
        return [known[name] for name in names]
    playable = []
    for scenario in known.values():
        try:
            check_playable(scenario, adapters)
        except CommandFailed as error:
            problem = error
        else:
            playable.append(scenario)
    if not playable:
        raise problem
    return playable


def _base(config: Config, url: str | None) -> str:
    """Return the base URL of the ingress. Raises: UsageError."""
    if url is None:
        return f"http://{join_authority(reachable(config.ingress.host), config.ingress.port)}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise click.UsageError(f"--url {url!r} is not a URL such as http://127.0.0.1:8000")
    return url


def _send(plan: Plan, base: str, *, concurrency: int, per_s: float | None) -> Tally:
    tracks = list(plan.tracks()) if plan.shuffled else None
    what, total = ("requests", len(tracks)) if tracks is not None else ("lifecycles", plan.lifecycles)
    so_far = itertools.count(1)
    with progress(what, total) as done:
        return Sending(
            iter(tracks) if tracks is not None else plan.tracks(),
            base,
            concurrency=concurrency,
            per_s=per_s,
            on_track=lambda: done(next(so_far)),
        ).run()


def _summary(plan: Plan, tally: Tally, base: str, seconds: float) -> Summary:
    return Summary(
        scenarios=[scenario.name for scenario in plan.scenarios],
        sources=[adapter.settings.name for adapter in plan.adapters],
        url=base,
        lifecycles=plan.lifecycles,
        requests=tally.requests,
        copies=tally.copies,
        corrupt=tally.corrupt,
        answers={str(status): count for status, count in sorted(tally.answers.items())},
        unanswered=tally.unanswered,
        unexpected=tally.unexpected,
        seconds=round(seconds, 3),
        requests_per_s=round(tally.requests / seconds, 1),
        latencies_ms=tally.latencies(),
        mistakes=tally.mistakes,
    )


def _print(summary: Summary) -> None:
    answers = [f"{count:,} × {status}" for status, count in summary.answers.items()]
    if summary.unanswered:
        answers.append(f"{summary.unanswered:,} × no answer")
    took = summary.latencies_ms
    fields: list[tuple[str, Any]] = [
        ("sent", f"{counted(summary.requests, 'request')} in {counted(summary.lifecycles, 'lifecycle')}"),
        ("copies", f"{summary.copies:,}" if summary.copies else None),
        ("corrupt", f"{summary.corrupt:,}" if summary.corrupt else None),
        ("answers", ", ".join(answers)),
        ("latency", took and f"p50 {took.p50} ms, p95 {took.p95} ms, p99 {took.p99} ms, most {took.max} ms"),
        ("rate", f"{summary.requests_per_s:,} requests/s for {summary.seconds} s"),
    ]
    print_fields(fields)
    if summary.unexpected:
        click.echo(f"\n{counted(summary.unexpected, 'request')} got another answer than it should:")
        for mistake in summary.mistakes:
            click.echo(f"- {mistake}")


def _describe(who: str | None, *, as_json: bool) -> None:
    if who is not None and who not in simulations():
        known = ", ".join(nearest_first(who, simulations()))
        raise click.UsageError(f"{who!r} is no provider with scenarios; those are: {known}")
    plays = {provider: play for provider, play in simulations().items() if who in (None, provider)}
    if as_json:
        print_json(
            [
                {
                    "provider": provider,
                    "scenario": scenario.name,
                    "about": scenario.about,
                    "events": [step.event for step in scenario.steps],
                }
                for provider, play in plays.items()
                for scenario in play.scenarios
            ]
        )
        return
    for number, (provider, play) in enumerate(plays.items()):
        click.secho(provider if number == 0 else f"\n{provider}", bold=True)
        rows = ((scenario.name, scenario.about) for scenario in play.scenarios)
        print_table(("Scenario", "What happens"), rows)
