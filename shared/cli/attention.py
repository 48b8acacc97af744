"""What waits for an operator: `headrace check` lists it, with the command that shows it."""

from collections.abc import Iterator
from contextlib import suppress

from shared.cli.wording import counted
from shared.errors import ArchiveUnavailable, ArchiveUnfit, ConfigError
from shared.event.times import rfc3339_ms
from shared.operations.disk import archive_of, counts_of, dead_letter_file
from shared.settings import Config
from shared.store.archive_state import ArchiveState, published
from shared.store.client import RedisClient
from shared.store.clock import now_ms
from shared.store.letters import Letters
from shared.store.records import Records
from shared.store.shares import Shares
from shared.store.sources import Sources
from shared.store.targets import State, Targets, TargetView
from shared.store.upkeep import Upkeep
from shared.store.views import CopyView
from shared.store.walk import Span

COPIES_LOOKED_AT = 1000


async def waiting_for_somebody(client: RedisClient, config: Config) -> list[str]:
    """Return what waits, one line each. Raises: StoreUnavailable."""
    records, targets = Records(client), Targets(client)
    names = [target.name for target in config.targets]
    names += [name for name in await targets.on_record() if name not in names]
    found = [line for view in await targets.views(names) for line in _of_target(view)]
    quarantined = await records.in_quarantine()
    if quarantined:
        found.append(f"{counted(quarantined, 'request')} in quarantine: headrace quarantine")
    copies = await records.duplicates(Span(0, await now_ms(client)), None, COPIES_LOOKED_AT)
    if differing := sum(_differs(copy) for copy in copies):
        newest = f" of the newest {COPIES_LOOKED_AT:,}" if len(copies) == COPIES_LOOKED_AT else ""
        found.append(
            f"{counted(differing, 'suppressed copy', 'suppressed copies')}{newest} had another body than the"
            " first: headrace events --duplicates"
        )
    for source, count in (await Upkeep(client).unknown()).items():
        found.append(
            f"{source} has sent {counted(count, 'event')} of a type that no mapping knows: headrace events"
            " --type provider.unknown"
        )
    on_disk: dict[str, int] = {}
    with suppress(ArchiveUnavailable):  # `disk_warnings` says why
        on_disk = await counts_of(Letters(client), dead_letter_file(config))
    for name, count in on_disk.items():
        letters = counted(count, "dead letter")
        found.append(f"target {name} has {letters} on disk: headrace dead-letters --target {name}")
    if config.archive.url and (state := await published(client)) is not None:
        found += _of_archive(state)
    verdict, sources = await Shares(client).verdict(), Sources(client)
    found += [f"target {name} is {why}: headrace targets" for name, why in verdict.targets.items()]
    found += [f"source {name} is refused: {why}" for name, why in verdict.sources.items()]
    configured = [source.name for source in config.sources]
    stranded = await sources.stranded(configured, at_once=True, also=await sources.with_inbox())
    return found + [stranded_note(name, count) for name, count in stranded.items()]


def disk_warnings(config: Config) -> list[str]:
    """Return a warning if dead letters could not be moved to the disk, and one if the archive is away.

    Raises: ConfigError if this version cannot use the archive.
    """
    from shared.archive.dead_letters import DeadLetterFile

    found = []
    try:
        DeadLetterFile(config.archive.dead_letters).check()
    except ArchiveUnavailable as error:
        found.append(f"dead letters cannot go to the disk: {error}")
    try:
        if (reader := archive_of(config)) is not None:
            reader.check()
    except ArchiveUnfit as error:
        raise ConfigError("archive.url", str(error)) from None
    except ArchiveUnavailable as error:
        found.append(f"the archive is away: {error}")
    return found


def _of_archive(state: ArchiveState) -> Iterator[str]:
    if state.error:
        yield f"nothing is archived since {rfc3339_ms(state.since_ms)}: {state.error}"
    elif state.is_late and state.oldest_ms is not None:
        events = counted(state.behind, "finished event")
        yield f"the archive is behind by {events}, the oldest of {rfc3339_ms(state.oldest_ms)}"
    if state.refused_in_all:
        id, why = next(iter(state.refused.items()))
        events = counted(state.refused_in_all, "event")
        yield f"{events} cannot be archived, and stay in Redis: {id} ({why}) and so on"


def stranded_note(source: str, waiting: int) -> str:
    """Return a line about the requests in the inbox of a source that is not configured, and what to do with
    them.
    """
    wait = f"{counted(waiting, 'request')} {'waits' if waiting == 1 else 'wait'}"
    return (
        f"{wait} in the inbox of {source}, which is not configured: put the source back, and workers admit"
        f" what waits; or: headrace quarantine inbox {source}"
    )


def _of_target(view: TargetView) -> Iterator[str]:
    if view.state != State.ACTIVE.value:
        reason = f" ({view.reason})" if view.reason else ""
        yield f"target {view.name} is {view.state}{reason}: headrace targets"
    if view.breaker != "closed":
        yield f"target {view.name} fails, and its breaker is {view.breaker}: headrace targets"
    if view.dead_letters:
        letters = counted(view.dead_letters, "dead letter")
        yield f"target {view.name} has {letters}: headrace dead-letters --target {view.name}"


def _differs(copy: CopyView) -> bool:
    return copy.identical is False
