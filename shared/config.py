"""The typed configuration: what a process of Headrace is told. Frozen; shared by all that it is told to.

`shared.configfile` reads the file, `shared.configcheck` types and checks it; the keys of a source belong to
its provider's adapter.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from shared.backoff import Retry
from shared.egress import Endpoint
from shared.egress.proxy import Proxy
from shared.headers import Auth
from shared.providers.base import SourceSettings
from shared.secrets import Secret
from shared.values import Duration, Private, Rate, Secrets

EMBEDDED = "embedded"
WILDCARDS = ("*",)


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration file."""


class RedisSettings(Section, frozen=True):
    """Where the records are kept, and what it must promise."""

    url: str = "redis://127.0.0.1:6379/0"
    require_aof: bool = True
    wait_replicas: int = 0


class IngressSettings(Section, frozen=True):
    """Where providers POST to, and how much at once: of a request, a process, a source."""

    host: str = "127.0.0.1"
    port: int = 8000
    public_url: str | None = None
    max_body_bytes: int = 262144
    max_header_bytes: int = 16384
    max_header_count: int = 100
    header_timeout: Duration = Duration.parse("10s")
    body_timeout: Duration = Duration.parse("20s")
    max_requests_in_flight: int = 1024
    max_connections: int = 4096
    max_incomplete_requests: int = 2048
    max_incomplete_bytes: int = 64 * 1024 * 1024
    max_inbox_events: int = 1_000_000
    max_inbox_bytes: int = 1024 * 1024 * 1024
    trusted_proxies: tuple[str, ...] = ()


class AdmissionSettings(Section, frozen=True):
    """What a worker reads; a request beyond it goes to quarantine."""

    max_json_bytes: int = 1024 * 1024
    max_json_depth: int = 128


class DedupeSettings(Section, frozen=True):
    """How long a copy is recognised as one; `resend_window`, by its bytes alone (see DedupeKey.counts)."""

    window: Duration = Duration.parse("7d")
    resend_window: Duration = Duration.parse("1h")


class RetentionSettings(Section, frozen=True):
    """How long what is finished is kept, and how much of what was said about it."""

    events: Duration = Duration.parse("7d")
    dead_letters: Duration = Duration.parse("30d")
    max_answer_bytes: int = 1024
    max_error_bytes: int = 1024


class LimitsSettings(Section, frozen=True):
    """What one target or one source may have of what all share.

    `memory_share` is a fraction of Redis's `maxmemory`; a target's or a source's own `share` goes before it.
    """

    memory_share: float = 0.25


class ArchiveSettings(Section, frozen=True):
    """What is kept outside of Redis. `dead_letters`: the URL of a SQLite file, empty before it is checked."""

    dead_letters: str = ""


class EgressSettings(Section, frozen=True):
    """How deliveries leave: straight, or through an HTTP proxy."""

    proxy: Secret | None = None
    proxy_resolves: bool = False


class Breaker(Section, frozen=True):
    """A target's circuit breaker: it opens after `failures` in a row, for `initial`, doubling up to `max`."""

    failures: int = 10
    initial: Duration = Duration.parse("5s")
    max: Duration = Duration.parse("5m")


class Target(Section, frozen=True):
    """A configured receiver."""

    name: str
    url: str
    secret: Secrets
    events: tuple[str, ...] = WILDCARDS
    sources: tuple[str, ...] = WILDCARDS
    filter: str | None = None
    format: Literal["cloudevents", "cloudevents-binary", "standard", "raw"] = "cloudevents"
    timeout: Duration = Duration.parse("15s")
    concurrency: int = 32
    retry: Retry = Retry()
    allow_private: Private = Private()
    ca_file: str | None = None
    client_cert: str | None = None
    headers: Mapping[str, Secret] = {}
    auth: Auth | None = None
    rate: Rate | None = None
    give_up_on: tuple[int, ...] = ()
    max_age: Duration | None = None
    disable_after: Duration = Duration.parse("5d")
    breaker: Breaker = Breaker()
    ordering: Literal["none", "transaction"] = "none"
    on_dead: Literal["continue", "hold"] = "continue"
    share: float | None = None

    @property
    def holds(self) -> bool:
        """Whether a dead letter holds the later events of its transaction."""
        return self.ordering == "transaction" and self.on_dead == "hold"


class Config(Section, frozen=True):
    """Everything that a process of Headrace is told."""

    redis: RedisSettings = RedisSettings()
    ingress: IngressSettings = IngressSettings()
    admission: AdmissionSettings = AdmissionSettings()
    egress: EgressSettings = EgressSettings()
    dedupe: DedupeSettings = DedupeSettings()
    retention: RetentionSettings = RetentionSettings()
    limits: LimitsSettings = LimitsSettings()
    archive: ArchiveSettings = ArchiveSettings()
    sources: tuple[SourceSettings, ...] = ()
    targets: tuple[Target, ...] = ()

    @property
    def proxy(self) -> Proxy | None:
        """The way out, None for the direct one. Raises: ValueError."""
        settings = self.egress
        return Proxy.parse(settings.proxy, resolves=settings.proxy_resolves) if settings.proxy else None

    def endpoint_of(self, target: Target) -> Endpoint:
        """Return where a target lives, and the way there. Raises: ValueError."""
        return Endpoint.parse(
            target.url,
            allow_private=target.allow_private,
            ca_file=target.ca_file,
            client_cert=target.client_cert,
            proxy=self.proxy,
        )
