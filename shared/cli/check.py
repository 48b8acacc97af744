"""`headrace check`: is the configuration valid and Redis fit, and what must each provider be given?"""

import sys
from typing import BinaryIO
from urllib.parse import urlsplit

import click
import msgspec

from shared.cli import config_option, json_option
from shared.cli.attention import disk_warnings, waiting_for_somebody
from shared.cli.matches import matches_of, print_matches
from shared.cli.mistakes import address_note, credentials, warnings_of
from shared.cli.printing import plain, print_fields, print_json
from shared.cli.reachable import lookup_warnings
from shared.cli.running import ask_whatever_it_holds, running_config
from shared.cli.wording import counted
from shared.delivery.outgoing import endpoint_of, proxy_of
from shared.delivery.signing import signing_key
from shared.errors import StoreUnavailable, StoreUnfit
from shared.http.authority import join_authority
from shared.providers import make_adapter
from shared.settings import Config, SourceSettings, Target
from shared.store.address import parse_address
from shared.store.client import RedisClient
from shared.store.fitness import Fitness, inspect
from shared.store.layout import LAYOUT, layout_of, refuse_later


class RedisReport(msgspec.Struct, frozen=True):
    """What was found of Redis.

    `error` says why nothing else is known. `layout`: the version of its records, if any.
    """

    address: str
    prefix: str
    error: str | None = None
    fitness: Fitness | None = None
    layout: int | None = None

    @property
    def problems(self) -> list[str]:
        """Each reason why Redis cannot be used."""
        found = [self.error] if self.error else []
        found += self.fitness.problems if self.fitness else []
        try:
            refuse_later(self.layout or 0)
        except StoreUnfit as error:
            found.append(str(error))
        return found


class SourceReport(msgspec.Struct, frozen=True):
    """What a provider must be given: its URLs, one for each credential, and how it proves itself."""

    name: str
    provider: str
    urls: list[str]
    proof: list[str]
    allow_ips: list[str]


class TargetReport(msgspec.Struct, frozen=True):
    """Where events go, and which."""

    name: str
    url: str
    events: list[str]
    sources: list[str]
    filter: str | None
    format: str
    address: str | None
    public_keys: list[str]


class Report(msgspec.Struct, frozen=True):
    """All that `check` found. `ok`: it can run. `warnings`: what is probably a mistake, and what waits."""

    ok: bool
    redis: RedisReport
    proxy: str | None
    sources: list[SourceReport]
    targets: list[TargetReport]
    warnings: list[str]


@click.command("check")
@click.option("--show-secrets", is_flag=True, help="Show path tokens and credentials.")
@click.option("--event", type=click.File("rb"), metavar="FILE", help="Show which targets an event matches.")
@click.option("--source", metavar="NAME", help="With --event: FILE is what the provider sent to this source.")
@config_option
@json_option
def command(
    show_secrets: bool, event: BinaryIO | None, source: str | None, config: str | None, as_json: bool
) -> None:
    """Check the configuration and Redis, and show which URL each provider must be given.

    Ends with 0 if all is well (warnings or not), 1 if Redis cannot be used, 2 if the
    configuration cannot.

    With --event, say instead for each target whether it would be sent the event in FILE (- is standard
    input), and why not: a canonical event as `events ID --payload` prints it, or, with --source, the body
    that a provider sent. Redis is not asked.
    """
    if source is not None and event is None:
        raise click.UsageError("--source goes with --event FILE")
    settings = running_config(config)
    if event is not None:
        matches = matches_of(settings, event.read(), source)
        if as_json:
            print_json(matches)
        else:
            print_matches(matches)
        return
    redis, waiting = _redis(settings)
    report = Report(
        ok=not redis.problems,
        redis=redis,
        proxy=way_out.shown if (way_out := proxy_of(settings)) else None,
        sources=[_source(settings, source, show=show_secrets) for source in settings.sources],
        targets=[_target(settings, target, show=show_secrets) for target in settings.targets],
        warnings=[*warnings_of(settings), *lookup_warnings(settings), *disk_warnings(settings), *waiting],
    )
    if as_json:
        print_json(report)
    else:
        _print(report)
    if not report.ok:
        sys.exit(1)


def _redis(config: Config) -> tuple[RedisReport, list[str]]:
    """Return what was found of Redis, and what waits there for an operator."""
    address, prefix = parse_address(config.redis.url, config.redis.prefix).shown, config.redis.prefix

    async def look(client: RedisClient) -> tuple[RedisReport, list[str]]:
        fitness = await inspect(client, require_aof=config.redis.require_aof)
        layout = await layout_of(client, [source.name for source in config.sources])
        report = RedisReport(address, prefix, fitness=fitness, layout=layout or None)
        return report, await waiting_for_somebody(client, config) if layout <= LAYOUT else []

    try:
        return ask_whatever_it_holds(config, look)
    except StoreUnavailable as error:
        return RedisReport(address, prefix, error=str(error)), []


def _source(config: Config, source: SourceSettings, *, show: bool) -> SourceReport:
    adapter = make_adapter(source)
    return SourceReport(
        name=source.name,
        provider=source.provider,
        urls=[_provider_url(config, source, path, show=show) for path in adapter.paths()],
        proof=_proof(source, adapter.proof(), show=show),
        allow_ips=list(source.allow_ips),
    )


def _provider_url(config: Config, source: SourceSettings, path: str, *, show: bool) -> str:
    ingress = config.ingress
    base = (ingress.public_url or f"http://{join_authority(ingress.host, ingress.port)}").rstrip("/")
    name, slash, token = path.partition("/")
    if slash and not show:
        # What follows the name is a credential: the stand-in for it is that of the configured secret.
        stand_ins = {
            secret.reveal().decode(errors="replace"): secret.masked()
            for secrets in credentials(source).values()
            for secret in secrets
        }
        token = stand_ins.get(token, "…")
    return f"{base}/webhooks/{name}{slash}{token}"


def _proof(source: SourceSettings, what: list[str], *, show: bool) -> list[str]:
    """Return what a request must carry besides its URL, in words, and the secrets."""
    if not what:
        return []
    what = list(what)
    for key, secrets in credentials(source).items():
        values = (secret.reveal().decode(errors="replace") if show else secret.masked() for secret in secrets)
        what.append(f"{key}: {', '.join(values)}")
    return what


def _target(config: Config, target: Target, *, show: bool) -> TargetReport:
    return TargetReport(
        name=target.name,
        url=target.url if show else _masked(target.url),
        events=list(target.events),
        sources=list(target.sources),
        filter=target.filter,
        format=target.format,
        address=address_note(endpoint_of(config, target)),
        public_keys=[key.public for key in map(signing_key, target.secret) if key.public],
    )


def _masked(url: str) -> str:
    """Return a URL without its path and query: receivers of webhooks have tokens there."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/" + ("…" if parts.query or parts.path.strip("/") else "")


def _print(report: Report) -> None:
    click.secho("Redis", bold=True)
    _print_redis(report.redis)
    click.secho("\nSources", bold=True)
    if not report.sources:
        click.echo("none")
    for source in report.sources:
        click.echo(f"{source.name} ({source.provider})")
        print_fields(
            [
                ("  URL", "\n".join(source.urls)),
                ("  proof", "\n".join(source.proof) or None),
                ("  only from", ", ".join(source.allow_ips) or None),
            ]
        )
    click.secho("\nTargets", bold=True)
    if report.proxy:
        click.echo(f"all through the proxy {report.proxy}")
    if not report.targets:
        click.echo("none")
    for target in report.targets:
        click.echo(target.name)
        print_fields(
            [
                ("  URL", target.url),
                ("  refused", target.address),
                ("  events", ", ".join(target.events)),
                ("  sources", ", ".join(target.sources)),
                ("  filter", target.filter),
                ("  format", target.format),
                ("  public key", "\n".join(target.public_keys) or None),
            ]
        )
    if report.warnings:
        click.secho(f"\n{counted(len(report.warnings), 'warning')}", bold=True)
        for warning in report.warnings:
            click.echo(f"- {plain(warning)}")
    verdict = "All is well."
    if not report.ok:
        verdict = "Redis cannot be used: see above."
    elif report.warnings:
        verdict = f"It can run, with {counted(len(report.warnings), 'warning')}: see above."
    click.echo(f"\nThe configuration is valid. {verdict}")


def _print_redis(redis: RedisReport) -> None:
    fitness = redis.fitness
    if fitness is None:
        error = (redis.error or "").removeprefix(f"Redis at {redis.address}: ")
        print_fields([("address", redis.address), ("unreachable", error)])
        return
    memory = f"{fitness.maxmemory / 2**20:,.0f} MiB" if fitness.maxmemory else "not set"
    aof = f"on, appendfsync {fitness.fsync}" if fitness.aof else "off"
    print_fields(
        [
            ("address", redis.address),
            ("prefix", redis.prefix),
            ("version", fitness.version),
            ("layout", _layout(redis.layout)),
            ("maxmemory", f"{memory}, {fitness.policy}"),
            ("append-only file", aof),
            ("unfit", "\n".join(redis.problems) or None),
        ]
    )


def _layout(version: int | None) -> str:
    if version is None:
        return f"no records yet; this version writes layout {LAYOUT}"
    return (
        str(version) if version >= LAYOUT else f"{version}; this version reads it, and writes layout {LAYOUT}"
    )
