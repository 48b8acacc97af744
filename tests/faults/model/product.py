"""The store itself, one method for each step that the machine takes. The only place here that calls it."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from shared.archive.reader import Reader
from shared.errors import StoreUnavailable
from shared.operations.archived import Archived
from shared.operations.readmissions import Held, Readmissions, Readmitted
from shared.operations.replays import Replayed, Replays, Selection
from shared.settings import PREFIX
from shared.store import admission, client, due, inbox
from shared.store.address import parse_address
from shared.store.admission import Admission, AdmissionOptions, Entry, Outcome, Quarantine
from shared.store.client import RedisClient
from shared.store.due import Attempt, BreakerPolicy, Claimed, End, Limits, Settlement
from shared.store.inbox import Received
from shared.store.keys import GROUP
from shared.store.lanes import Lanes
from shared.store.packer import Packer
from shared.store.targets import State, Targets
from shared.store.upkeep import Removed, Upkeep
from tests.faults.model.clock import Clock, told
from tests.faults.model.intake import EVENTS_MS, RESEND_MS, TURN_MS, WINDOW_MS
from tests.faults.model.letters import Reading
from tests.faults.model.model import DEAD_LETTERS_MS, LAPSES_UNCHARGED, TOO_OLD
from tests.integration.due import Claims, Due
from tests.integration.turns import Turns

T = TypeVar("T")

LEASE_MS = 30_000
ATTEMPT_MS = 7
USER = "model"

_SNAPSHOT = """
local found = {}
for _, key in ipairs(redis.call('KEYS', 'hr:*')) do
    local type, value = redis.call('TYPE', key).ok, nil
    if type == 'hash' then value = redis.call('HGETALL', key)
    elseif type == 'zset' then value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    elseif type == 'set' then value = redis.call('SMEMBERS', key)
    elseif type == 'list' then value = redis.call('LRANGE', key, 0, -1)
    elseif type == 'string' then value = redis.call('GET', key)
    elseif type == 'stream' then
        local pending = redis.pcall('XPENDING', key, ARGV[1], '-', '+', 10000)
        value = {redis.call('XRANGE', key, '-', '+'), pending.err and {} or pending}
    end
    found[#found + 1] = {key, type, value}
end
return found
"""


class Product:
    """The real store over a real Redis, its clock the test's. Each method is one call of it."""

    archives = False
    archived: frozenset[str] = frozenset()
    """What the archive holds of events and copies."""
    copies_ms = EVENTS_MS
    _reader: Reader | None = None
    _views_of_archive: Archived | None = None

    def __init__(self, url: str, patch: pytest.MonkeyPatch) -> None:
        self._scripts = client.source
        self._scripts.cache_clear()
        patch.setattr(client, "source", told(client.source))
        patch.setattr(due, "LAPSES_UNCHARGED", LAPSES_UNCHARGED)  # ten of them are beyond any short run
        patch.setattr(admission, "TURN_MS", TURN_MS)
        patch.setattr(inbox, "TURN_MS", TURN_MS)
        self._loop = asyncio.new_event_loop()
        self.client = RedisClient(parse_address(url, PREFIX), timeout_s=30)
        self.clock = Clock(self.client.redis, self._loop)
        self._inbox = Turns(self.client)
        self._due = Due(self.client)
        self._targets = Targets(self.client)
        self._lanes = Lanes(self.client)
        self._upkeep = Upkeep(self.client)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(coroutine)

    def close(self) -> None:
        self._scripts.cache_clear()  # what they include was read by the test's clock
        self.run(self.client.close())
        self._loop.close()

    def start(self) -> None:
        """Begin anew, with nothing held."""
        redis: Any = self.client.redis
        self.run(redis.flushall())
        self.clock.start()

    def move(self, quanta: int) -> None:
        self.clock.move(quanta, GROUP)

    def snapshot(self) -> list[Any]:
        """Return every key of ours, its type, and all that it holds."""
        redis: Any = self.client.redis
        rows: list[Any] = self.run(redis.eval(_SNAPSHOT, 0, GROUP))
        return rows

    # In.

    def ingest(self, source: str, bodies: Sequence[bytes]) -> list[str]:
        self.clock.stamp(self.client.keys.inbox(source))
        receipts = self.run(self._inbox.put([Received(source, body, {}) for body in bodies]))
        return [receipt for receipt in receipts if isinstance(receipt, str)]

    def take(self, source: str, worker: str) -> list[Entry]:
        return self.run(self._inbox.take(source, worker))

    def take_over(self, source: str, worker: str) -> Entry | None:
        return self.run(self._inbox.take_over(source, worker))

    def begin_turn(self, source: str, holder: str) -> list[Entry] | None:
        return self.run(self._inbox.begin_turn(source, holder))

    def take_in_turn(self, source: str, holder: str) -> list[Entry] | None:
        return self.run(self._inbox.take_in_turn(source, holder))

    def end_turn(self, source: str, holder: str) -> None:
        self.run(self._inbox.end_turn(source, holder))

    def admit(self, source: str, batch: Sequence[Admission | Quarantine], fence: str) -> list[Outcome] | None:
        """Admit; None where the turn is over."""
        options = AdmissionOptions(WINDOW_MS, self.copies_ms, fence, RESEND_MS)
        try:
            return self.run(self._inbox.admit(source, batch, options))
        except StoreUnavailable as error:
            if "FENCED" not in str(error):
                raise
            return None

    def readmit(self, reader: Reading, held: Held) -> Readmitted:
        async def run() -> Readmitted:
            readmissions = Readmissions(
                self.client, reader, retention_ms=self.copies_ms, archive=self._views_of_archive
            )
            return await readmissions.run(held, await readmissions.plan(held), user=USER)

        return self.run(run())

    # Out.

    def claim(self, target: str, most: int, concurrency: int) -> Claims:
        return self.run(self._due.claim(target, most=most, limits=Limits(LEASE_MS, concurrency)))

    def settle(
        self, ends: Sequence[tuple[Claimed, End]], delay_ms: int, hold: Callable[[str], bool]
    ) -> list[bool]:
        """Settle claims; all but hand-backs with an attempt. The breaker never opens, nor does time disable."""
        batch = [
            Settlement(
                claimed, end, delay_ms, None if end is End.BACK else self._attempt(claimed, end), TOO_OLD
            )
            for claimed, end in ends
        ]
        policies = {
            claimed.target: BreakerPolicy(10**9, 1, 1, 10**15, hold=hold(claimed.target))
            for claimed, _ in ends
        }
        changed, _ = self.run(self._due.settle(batch, policies))
        return changed

    def _attempt(self, claimed: Claimed, end: End) -> Attempt:
        return Attempt(
            claimed.failed + 1, self.clock.now_ms, ATTEMPT_MS, status=200 if end is End.DONE else 500
        )

    def release(self, target: str) -> tuple[int, list[Claimed]]:
        return self.run(self._due.release(target, lease_ms=LEASE_MS))

    def set_state(self, target: str, state: State) -> None:
        self.run(self._targets.set_state(target, state, "", user=USER))

    def give_up(self, target: str, before_ms: int | None, *, hold: bool) -> int:
        return self.run(self._targets.give_up(target, due_before_ms=before_ms, reason=TOO_OLD, hold=hold))

    def let_go(self, target: str) -> int:
        return self.run(self._lanes.let_go(target))

    def find_held(self, target: str) -> int:
        return self.run(self._lanes.find(target))

    def give_up_all(self, target: str) -> int:
        return self.run(self._targets.give_up_all(target))

    def know(self, targets: Sequence[str]) -> list[str]:
        return self.run(self._targets.know(targets))

    def on_record(self) -> list[str]:
        return self.run(self._targets.on_record())

    def remove(self, target: str) -> int:
        return self.run(self._targets.remove(target, user=USER))

    def forget(self, target: str) -> None:
        self.run(self._targets.forget(target))

    def replay(self, targets: Sequence[str], selection: Selection) -> Replayed:
        async def run() -> Replayed:
            replays = Replays(self.client, targets, None, self._reader)
            return await replays.run(selection, await replays.plan(selection), user=USER)

        return self.run(run())

    def pack(self) -> int:
        packer, packed = Packer(self.client), 0
        while count := self.run(packer.pack()):
            packed += count
        return packed

    def retain(self, targets: Sequence[str], *, under_pressure: bool) -> Removed:
        return self.run(
            self._upkeep.retain(
                targets,
                events_ms=EVENTS_MS,
                dead_letters_ms=DEAD_LETTERS_MS,
                under_pressure=under_pressure,
                archives=self.archives,
            )
        )
