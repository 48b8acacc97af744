"""Inbox → normalise, dedupe, match → one atomic admission. Runs in Celery's task threads."""

from collections import Counter
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import msgspec
import structlog

from shared.config import Config
from shared.doorbell import ADMIT, Doorbell
from shared.errors import Unreadable
from shared.events import HANDSHAKE, attributes_of, data_of, filter_context
from shared.ids import received_ms
from shared.matching import Matcher
from shared.providers import make_adapter
from shared.providers.base import RawEvent
from shared.store.inbox import TAKE_MOST, Admission, Entry, Outcome, Quarantine
from workers.runtime import Runtime

log = structlog.get_logger()

TAKES_ALONE = 3
ROUNDS = 16

_encode = msgspec.json.Encoder().encode


class Admitter:
    """Admits what waits in the inboxes of this process's sources."""

    def __init__(self, config: Config, runtime: Runtime) -> None:
        self._runtime = runtime
        self._adapters = {settings.name: make_adapter(settings) for settings in config.sources}
        self._matcher = Matcher(config.targets)
        self._window_ms = config.dedupe.window.ms
        self._retention_ms = config.retention.events.ms

    def answer(self, source: str) -> None:
        """Answer a doorbell: admit what waits, at most `ROUNDS` batches; unknown sources are left alone.

        Raises: StoreUnavailable.
        """
        self._runtime.answering()
        if source not in self._adapters:
            return
        bell = Doorbell(ADMIT, source)
        # The flag goes down before the inbox is read: what comes after that read rings anew.
        self._runtime.call(self._runtime.bells.answered(bell))
        for _ in range(ROUNDS):
            entries = self._runtime.call(self._runtime.inbox.take(source, self._runtime.name))
            if not entries:
                break
            if len(entries) == TAKE_MOST:
                self._runtime.call(self._runtime.bells.ring([bell]))  # more than one batch: let others join
            self._admit(source, entries)
        else:
            self._runtime.call(self._runtime.bells.ring([bell]))
        self._take_over(source)

    def _take_over(self, source: str) -> None:
        """Retry what a dead worker left behind: each entry alone, so that poison takes no neighbour along."""
        while entry := self._runtime.call(self._runtime.inbox.take_over(source, self._runtime.name)):
            if entry.takes_alone > TAKES_ALONE:
                detail = f"{TAKES_ALONE} workers in turn took it alone and died or were ended"
                self._commit(source, [Quarantine(entry, "poison", detail)], perf_counter())
            else:
                self._admit(source, [entry])

    def _admit(self, source: str, entries: Sequence[Entry]) -> None:
        started = perf_counter()
        self._runtime.batch_started()
        try:
            batch = [self._read(source, entry) for entry in entries]
        finally:
            self._runtime.batch_ended()
        self._commit(source, batch, started)

    def _commit(self, source: str, batch: Sequence[Admission | Quarantine], started: float) -> None:
        outcomes = self._runtime.call(
            self._runtime.inbox.admit(
                source, batch, window_ms=self._window_ms, retention_ms=self._retention_ms
            )
        )
        admitted = {outcome.entry.stream_id for outcome in outcomes if outcome.what == "admitted"}
        targets = {
            target
            for item in batch
            if isinstance(item, Admission) and item.entry.stream_id in admitted
            for target in item.targets
        }
        # This process delivers at once what it can; what it cannot take, it rings for.
        for target in targets:
            self._runtime.kick(target)
        self._log(source, batch, outcomes, started)

    def _read(self, source: str, entry: Entry) -> Admission | Quarantine:
        """Have the adapter read an entry, and find its targets."""
        adapter = self._adapters[source]
        try:
            event = adapter.normalise(RawEvent(entry.body, entry.headers))
            attributes = attributes_of(event, id=entry.id, source=source, received_ms=received_ms(entry.id))
            data = data_of(event, provider=adapter.provider)

            def context() -> dict[str, Any]:
                return filter_context(attributes, data)

            return Admission(
                entry=entry,
                dedupe=event.dedupe,
                # A handshake is recorded, and nobody's business but ours.
                targets=()
                if event.type == HANDSHAKE
                else self._matcher.targets_for(source, event.type, context),
                attributes=_encode(attributes),
                data=_encode(data),
                content_type=entry.headers.get("content-type", ""),
            )
        except Unreadable as error:
            return Quarantine(entry, error.code, error.detail)
        except MemoryError:
            raise  # of this moment, perhaps, and not of this entry: it is taken again, alone
        except Exception as error:
            log.error("adapter failed", source=source, event_id=entry.id, error=type(error).__name__)
            return Quarantine(entry, "adapter-failed", f"the adapter raised {type(error).__name__}")

    def _log(
        self,
        source: str,
        batch: Sequence[Admission | Quarantine],
        outcomes: Sequence[Outcome],
        started: float,
    ) -> None:
        counts = Counter(outcome.what for outcome in outcomes)
        reasons = sorted({item.code for item in batch if isinstance(item, Quarantine)})
        log.info(
            "admitted",
            source=source,
            entries=len(batch),
            **counts,
            event_id=batch[0].entry.id if len(batch) == 1 else None,
            reasons=reasons or None,
            duration_ms=round((perf_counter() - started) * 1000, 2),
        )
