"""The configuration as types. All are frozen.

`shared.config.file` reads the file, `shared.config.check` types and checks it; the keys of a source belong to
its provider's adapter.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.event.jsonbody import MAX_DEPTH
from shared.secrets import Secret
from shared.values import Duration, MemberPath, Months, Private, Rate, RequestTimeout, Secrets

EMBEDDED = "embedded"
WILDCARDS = ("*",)
PREFIX = "hr:"
LARGEST_BODY = 64 * 1024 * 1024  # what a worker takes out of an inbox at once

Name = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z",
        description="1 to 64 letters, digits, dots, dashes or underscores",
    ),
]
KeyPrefix = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,31}:\Z",
        description="1 to 32 letters, digits, dots, dashes or underscores, and a colon",
    ),
]
"""What a gateway's keys in Redis start with.

It has one colon, at its end, so no prefix is the beginning of another.
"""
Port = Annotated[int, Meta(ge=1, le=65535)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
BodyBytes = Annotated[int, Meta(ge=1, le=LARGEST_BODY)]
Share = Annotated[float, Meta(ge=0.001, le=0.8)]
"""A fraction of Redis's memory. At 80 % in use, ingress refuses everything anyway."""
Status = Annotated[int, Meta(ge=300, le=599)]
"""An HTTP status that is no success."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration file."""


class RedisSettings(Section, frozen=True):
    """The Redis that keeps the records, and which guarantees it must give."""

    url: str = "redis://127.0.0.1:6379/0"
    prefix: KeyPrefix = PREFIX
    require_aof: bool = True
    wait_replicas: Annotated[int, Meta(ge=0)] = 0


class IngressSettings(Section, frozen=True):
    """Where ingress listens, and its limits: of a request, a process, a source."""

    host: str = "127.0.0.1"
    port: Port = 8000
    public_url: str | None = None
    # Below these lower bounds no request would pass; the parser holds no longer line than the upper bound.
    max_body_bytes: BodyBytes = 262144
    max_header_bytes: Annotated[int, Meta(ge=1024, le=65535)] = 16384
    max_header_count: Annotated[int, Meta(ge=16, le=1000)] = 100
    header_timeout: RequestTimeout = RequestTimeout.parse("10s")
    body_timeout: RequestTimeout = RequestTimeout.parse("20s")
    max_requests_in_flight: Count = 1024
    max_connections: Count = 4096
    max_incomplete_requests: Count = 2048
    max_incomplete_bytes: Annotated[int, Meta(ge=1, le=2**40)] = 64 * 1024 * 1024
    max_inbox_events: Annotated[int, Meta(ge=1, le=10**9)] = 1_000_000
    max_inbox_bytes: Annotated[int, Meta(ge=1, le=2**50)] = 1024 * 1024 * 1024
    trusted_proxies: tuple[str, ...] = ()


class AdmissionSettings(Section, frozen=True):
    """The largest and deepest JSON that a worker reads. A request beyond that goes to quarantine."""

    max_json_bytes: BodyBytes = 1024 * 1024
    max_json_depth: Annotated[int, Meta(ge=1, le=MAX_DEPTH)] = 128


class DedupeSettings(Section, frozen=True):
    """How long a copy is recognised as one; `resend_window`, by its bytes alone (see DedupeKey.counts)."""

    window: Duration = Duration.parse("7d")
    resend_window: Duration = Duration.parse("1h")


class RetentionSettings(Section, frozen=True):
    """How long finished events and dead letters are kept, and how many bytes of answers and errors.

    `hot` is how long a finished event stays in Redis before it is moved to the archive, if there is one;
    `events` says nothing then.
    """

    hot: Duration = Duration.parse("1h")
    events: Duration = Duration.parse("7d")
    dead_letters: Duration = Duration.parse("30d")
    max_answer_bytes: Annotated[int, Meta(ge=0, le=65536)] = 1024
    max_error_bytes: Annotated[int, Meta(ge=64, le=65536)] = 1024


class LimitsSettings(Section, frozen=True):
    """How much one target or one source may take of what all share.

    `memory_share` is a fraction of Redis's `maxmemory`; a `share` of the target or the source replaces it.
    """

    memory_share: Share = 0.25


class ArchiveSettings(Section, frozen=True):
    """What is kept outside of Redis.

    `url` is that of the archive's database, SQLite's or PostgreSQL's; without one, events leave with
    `retention.events`. `keep` is how long events stay there. `dead_letters` is the URL of a SQLite file; the
    check of the configuration fills it in if it is empty. With `encryption_keys` (32 bytes in base64, the
    newest first), the archive keeps payloads encrypted.
    """

    url: str = ""
    keep: Months = Months.parse("7y")
    dead_letters: str = ""
    encryption_keys: tuple[Secret, ...] = ()


class EgressSettings(Section, frozen=True):
    """How deliveries leave: straight, or through an HTTP proxy."""

    proxy: Secret | None = None
    proxy_resolves: bool = False


class Retry(Section, frozen=True):
    """A target's retry table: `initial` × `factor`ⁿ, at most `max`, `attempts` in all."""

    initial: Duration = Duration.parse("5s")
    factor: Annotated[float, Meta(ge=1, le=1_000_000)] = 4.0
    max: Duration = Duration.parse("12h")
    attempts: Annotated[int, Meta(ge=1)] = 14
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.2


class Breaker(Section, frozen=True):
    """A target's circuit breaker: it opens after `failures` in a row, for `initial`, doubling up to `max`."""

    failures: Annotated[int, Meta(ge=1)] = 10
    initial: Duration = Duration.parse("5s")
    max: Duration = Duration.parse("5m")


class Auth(Section, frozen=True):
    """What a target authenticates us by, besides the signature: `bearer`, or `username` and `password`."""

    bearer: Secret | None = None
    username: Secret | None = None
    password: Secret | None = None


class Target(Section, frozen=True):
    """A configured receiver."""

    name: Name
    url: str
    secret: Secrets
    events: tuple[str, ...] = WILDCARDS
    sources: tuple[str, ...] = WILDCARDS
    filter: str | None = None
    format: Literal["cloudevents", "cloudevents-binary", "standard", "raw"] = "cloudevents"
    timeout: Duration = Duration.parse("15s")
    concurrency: Annotated[int, Meta(ge=1)] = 32
    retry: Retry = Retry()
    allow_private: Private = Private()
    ca_file: str | None = None
    client_cert: str | None = None
    headers: Mapping[str, Secret] = {}
    auth: Auth | None = None
    rate: Rate | None = None
    give_up_on: tuple[Status, ...] = ()
    max_age: Duration | None = None
    disable_after: Duration = Duration.parse("5d")
    breaker: Breaker = Breaker()
    ordering: Literal["none", "transaction"] = "none"
    on_dead: Literal["continue", "hold"] = "continue"
    share: Share | None = None
    redact: tuple[MemberPath, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether a dead letter holds the later events of its transaction."""
        return self.ordering == "transaction" and self.on_dead == "hold"


class SourceSettings(Section, frozen=True):
    """The keys that every source takes. A provider's own `Settings` add its credentials.

    `window` and `resend_window` say how long a copy is recognised as one, instead of the configuration's
    `dedupe.window` and `dedupe.resend_window`. `share` is the fraction of Redis's memory that this source's
    requests may take while they wait, instead of `limits.memory_share`. `redact` says what no target gets of
    its events. `keep` is how long they stay in the archive, instead of `archive.keep`.
    """

    name: Name
    provider: str
    allow_ips: tuple[str, ...] = ()
    window: Duration | None = None
    resend_window: Duration | None = None
    share: Share | None = None
    keep: Months | None = None
    redact: tuple[MemberPath, ...] = ()


class Config(Section, frozen=True):
    """The whole configuration."""

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
    def copies_ms(self) -> int:
        """How long Redis keeps the record of a copy, in milliseconds; 0 if that is until it is archived."""
        return 0 if self.archive.url else self.retention.events.ms
