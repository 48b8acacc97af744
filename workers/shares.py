"""Keeps each target and each source within its share of memory, so that one that is down does not stop
others.

If a target is past its share, its dead letters are moved to the disk, the oldest first, and after them the
deliveries that have waited longest, as dead letters. If a source is past its share, ingress refuses it: it
reads the verdict that is written here. One worker at a time does this, apart from the sweep: a disk that
stalls delays no retry.
"""

import asyncio
import fnmatch
from time import monotonic

import structlog

from shared.delivery.verdicts import GivenUp, Reason
from shared.errors import ArchiveUnavailable, StoreUnavailable
from shared.operations.moves import EXPIRE_AT_ONCE, Moved, Moves
from shared.settings import ArchiveSettings, Config
from shared.store.client import RedisClient
from shared.store.clock import now_ms
from shared.store.duties import Duty
from shared.store.keys import names_digest
from shared.store.letters import Letters
from shared.store.shares import Memory, Shares, Taken, Verdict
from shared.store.sources import Sources

log = structlog.get_logger()

LOOK_S = 1.0
LEASE_MS = 10_000
RECORDS_S = 30.0
TIDY_S = 5.0
SAY_AGAIN_S = 3600.0
STALLED_S = 10.0
UNDER = 0.90  # a source or target that was past its share stays so until it takes less than this part of it
# If all together take more of the memory than this, the one that takes the most counts as past its share.
PRESSURE, RELIEVED = 0.76, 0.72
LEAST_UNDER_PRESSURE = 0.05
FEW_FINISHED = 1000
MOVING_S = 1.0


class ShareKeeper:
    """Measures shares, and has dead letters moved, while this worker has the duty."""

    def __init__(self, config: Config, worker: str, client: RedisClient) -> None:
        self._duty = Duty(client, "shares", worker, lease_ms=LEASE_MS)
        self._shares = Shares(client)
        self._sources = Sources(client)
        self._client = client
        self._letters = Letters(client)
        self._excess: dict[str, int] = {}
        self._full: dict[str, str] = {}
        self._stranded: dict[str, int] = {}
        self._filled: dict[str, float] = {}
        self._stuck: str | None = None
        self._measured = self._published = False
        self._searched = False
        self._records_at = self._tidy_at = 0.0
        self._say_at: dict[str, float] = {}
        self._moving: asyncio.Task[None] | None = None
        self._moving_since = 0.0
        self._archive: ArchiveSettings | None = None
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Apply a configuration from the next look on."""
        share = config.limits.memory_share
        self._source_shares = {source.name: source.share or share for source in config.sources}
        self._target_shares = {target.name: target.share or share for target in config.targets}
        self._default_share = share
        self._holding = {target.name for target in config.targets if target.on_dead == "hold"}
        self._fed_by = {target.name: target.sources for target in config.targets}
        self._dead_letters_ms = config.retention.dead_letters.ms
        self._names = names_digest(self._source_shares, self._target_shares)
        if config.archive != self._archive:
            self._archive = config.archive
            self._moves = Moves(self._client, config.archive.dead_letters, config.archive)

    async def run(self) -> None:
        """Look about once a second, until cancelled."""
        try:
            while True:
                try:
                    await self.look()
                except StoreUnavailable:
                    pass  # the sweep logs that
                except Exception as error:  # the next look may not meet it
                    log.error("looking at shares failed", error=type(error).__name__, reason=str(error))
                await asyncio.sleep(LOOK_S / 5 if self._excess else LOOK_S)
        finally:
            if self._moving is not None:
                self._moving.cancel()

    async def look(self) -> None:
        """Measure, publish which targets and sources are past their share, and start moving dead letters.

        Raises: StoreUnavailable.
        """
        if not await self._duty.mine(self._names):
            return
        now = monotonic()
        if now >= self._records_at:
            self._records_at = now + RECORDS_S
            await self._look_for_stranded()
        memory = await self._shares.memory()
        shares = [self._default_share, *self._source_shares.values(), *self._target_shares.values()]
        # None can take more than all memory in use.
        self._filled = {}
        self._measured = False
        if self._excess or self._full or memory.used > min(shares) * memory.most:
            self._measured = True
            await self._judge(memory, await self._shares.taken(list(self._source_shares)))
        await self._publish()
        if self._moving is not None and self._moving.done():
            done, self._moving = self._moving, None
            done.result()
        if self._moving is None and (self._excess or now >= self._tidy_at):
            self._moving_since = now
            self._moving = asyncio.create_task(self._move_all())
        elif self._moving is not None and now - self._moving_since > STALLED_S:
            self._say_stuck("the disk does not answer")

    async def _judge(self, memory: Memory, taken: Taken) -> None:
        excess = {}
        for target, size in taken.targets.items():
            limit = int(self._target_shares.get(target, self._default_share) * memory.most)
            self._filled[target] = round(size / max(limit, 1), 3)
            if size > (limit * UNDER if target in self._excess else limit):
                excess[target] = int(size - limit * UNDER)
        full = {}
        for source, share in self._source_shares.items():
            size, limit = taken.sources.get(source, 0), int(share * memory.most)
            if size > (limit * UNDER if source in self._full else limit):
                full[source] = f"what waits of it takes {_mib(size)}, past {share:.0%} of Redis's memory"
        if not excess and not full and memory.used_share > PRESSURE:
            self._relieve(memory, taken, excess, full)
        for target in excess.keys() - self._excess.keys():
            log.error(
                "a target is past its share of memory: its dead letters go to disk",
                target=target,
                share=self._target_shares.get(target, self._default_share),
                takes=_mib(taken.targets[target]),
                file=str(self._moves.path),
            )
        for target in self._excess.keys() - excess.keys():
            log.info("a target is within its share of memory again", target=target)
        for source in full.keys() - self._full.keys():
            log.error("a source is past its share of memory: it is refused", source=source, why=full[source])
        for source in self._full.keys() - full.keys():
            log.info("a source is within its share of memory again", source=source)
        self._excess, self._full = excess, full

    def _relieve(self, memory: Memory, taken: Taken, excess: dict[str, int], full: dict[str, str]) -> None:
        """Count the one that takes the most as past its share: it alone is refused, before all would be."""
        every = {("target", name): size for name, size in taken.targets.items()}
        every |= {("source", n): size for n, size in taken.sources.items() if n in self._source_shares}
        (kind, name), size = max(every.items(), key=lambda item: item[1], default=(("", ""), 0))
        if size < LEAST_UNDER_PRESSURE * memory.most:
            return
        if kind == "target":
            excess[name] = int(memory.used - RELIEVED * memory.most)
        else:
            full[name] = f"what waits of it takes {_mib(size)}, the most while Redis is nearly full"

    async def _publish(self) -> None:
        sources = dict(self._full)
        if self._stuck is not None:
            # Nothing can be moved out of Redis for these targets: sources that feed only them must wait.
            for source in self._source_shares:
                fed = [
                    t
                    for t, globs in self._fed_by.items()
                    if any(fnmatch.fnmatchcase(source, g) for g in globs)
                ]
                if fed and all(target in self._excess for target in fed):
                    sources.setdefault(source, f"its targets are past their share, and {self._stuck}")
        if sources or self._measured or self._stranded or self._published:
            targets = {
                name: f"past {self._target_shares.get(name, self._default_share):.0%} of Redis's memory"
                for name in self._excess
            }
            at_ms = await now_ms(self._client)
            verdict = Verdict(at_ms, targets, sources, self._stranded, self._filled)
            await self._shares.publish(self._names, verdict)
            self._published = bool(sources or self._measured or self._stranded)

    async def _move_all(self) -> None:
        try:
            for target, excess in dict(self._excess).items():
                await self._move(target, excess)
            now = monotonic()
            if now >= self._tidy_at:
                self._tidy_at = now + TIDY_S
                await self._tidy()
        except StoreUnavailable:
            pass  # the next look finds it again
        except ArchiveUnavailable as error:
            self._say_stuck(str(error))
        else:
            if self._stuck is not None:
                log.info("dead letters can be moved to the disk again")
                self._say_at.pop("", None)  # if it fails again, that is logged again
            self._stuck = None

    def _say_stuck(self, why: str) -> None:
        self._stuck = why
        if monotonic() >= self._say_at.get("", 0.0):
            self._say_at[""] = monotonic() + SAY_AGAIN_S
            log.error("dead letters cannot be moved to the disk: they stay in Redis", reason=why)

    async def _move(self, target: str, excess: int) -> None:
        until = monotonic() + MOVING_S
        hold = target in self._holding
        share = self._target_shares.get(target, self._default_share)
        why = Reason(
            GivenUp.SHARE, f"what waited for the target took more than {share:.1%} of Redis's memory"
        )
        dead = waited = 0
        no_more_dead = False
        while excess > 0 and monotonic() < until:
            if no_more_dead:
                moved: Moved = await self._moves.what_waits(target, why, hold=hold)
                waited += moved.letters
            else:
                moved = await self._moves.dead_letters(target, hold=hold)
                no_more_dead = not moved.more
                dead += moved.letters
                moved = Moved(moved.letters, moved.bytes, True)
            excess -= moved.bytes
            if not moved.more:
                break
        if dead or waited:
            log.warning("moved to the disk", target=target, dead_letters=dead, waited=waited)

    async def _tidy(self) -> None:
        await self._moves.tidy()
        before_ms = await now_ms(self._client) - self._dead_letters_ms
        removed = count = await self._moves.expire(before_ms)
        while count == EXPIRE_AT_ONCE:
            count = await self._moves.expire(before_ms)
            removed += count
        if removed:
            log.warning("retention removed what nobody took care of", dead_letters=removed, place="disk")

    async def _look_for_stranded(self) -> None:
        if not self._searched:
            await self._sources.record(await self._sources.with_inbox())
            self._searched = True
        await self._sources.know(self._source_shares)
        self._stranded = await self._sources.stranded(self._source_shares)
        now = monotonic()
        for source, requests in self._stranded.items():
            if now >= self._say_at.get(f"source {source}", 0.0):
                self._say_at[f"source {source}"] = now + SAY_AGAIN_S
                log.warning(
                    "requests wait in the inbox of a source that is not configured",
                    source=source,
                    requests=requests,
                )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
