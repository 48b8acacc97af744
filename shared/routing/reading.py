"""Reading what was received: the adapter makes an event of it, and the configuration finds its targets.

What becomes of the result is left to admission. Nothing is logged here: workers read, and so do commands.
"""

from typing import Any

import msgspec

from shared.errors import Unreadable
from shared.event.ids import received_ms
from shared.event.record import attributes_of, data_of, filter_context
from shared.event.types import HANDSHAKE, UNKNOWN
from shared.providers import make_adapter
from shared.providers.base import RawEvent
from shared.routing.matching import Matcher, source_matches
from shared.settings import Config
from shared.store import keys
from shared.store.admission import Admission, Entry, Quarantine
from shared.values import clipped

ADAPTER_FAILED = "adapter-failed"
"""The code of what an adapter failed on, instead of saying what is wrong with it."""
POISON = "poison"
"""The code of what workers died of."""

_encode = msgspec.json.Encoder().encode


class Reader:
    """Reads for the sources of a configuration."""

    def __init__(self, config: Config) -> None:
        self._limits = config.admission
        self._most_detail = config.retention.max_error_bytes
        self._adapters = {settings.name: make_adapter(settings) for settings in config.sources}
        self._windows_ms = {
            settings.name: (settings.window or config.dedupe.window).ms for settings in config.sources
        }
        self._resends_ms = {
            settings.name: (settings.resend_window or config.dedupe.resend_window).ms
            for settings in config.sources
        }
        self._matcher = Matcher(config.targets)
        ordered = [target for target in config.targets if target.ordering == "transaction"]
        self._ordered = frozenset(target.name for target in ordered)
        self._in_turn = frozenset(
            source.name
            for source in config.sources
            if self._adapters[source.name].in_turn
            or any(source_matches(target, source.name) for target in ordered)
        )

    def knows(self, source: str) -> bool:
        """Tell whether a source is configured: what another sent is left alone."""
        return source in self._adapters

    def window_ms(self, source: str) -> int:
        """Return how long a copy for this source is recognised as one, in milliseconds."""
        return self._windows_ms[source]

    def resend_ms(self, source: str) -> int:
        """Return how long bytes that recur are a copy if keys count, in milliseconds; at most `window_ms`."""
        return min(self._resends_ms[source], self._windows_ms[source])

    def in_turn(self, source: str) -> bool:
        """Tell whether one worker at a time admits from a source.

        So it is if a source feeds an ordered target, or if its keys count.
        """
        return source in self._in_turn

    def read(self, entry: Entry) -> Admission | Quarantine:
        """Have the adapter of the entry's source, which must be configured, read it, and find its targets.

        Raises: MemoryError, and nothing else.
        """
        adapter, source, limits = self._adapters[entry.source], entry.source, self._limits
        try:
            if len(entry.body) > limits.max_json_bytes:
                raise Unreadable(
                    "too-large",
                    f"the body has {len(entry.body)} bytes, and admission.max_json_bytes is"
                    f" {limits.max_json_bytes}",
                )
            event = adapter.normalise(RawEvent(entry.body, entry.headers, limits.max_json_depth))
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
                transaction=""
                if event.transaction_id is None
                else keys.transaction(
                    adapter.provider,
                    event.transaction_id,
                    source if adapter.transactions_per_source else None,
                ),
                unknown=event.type == UNKNOWN,
                in_order=self._ordered,
            )
        except Unreadable as error:
            detail = error.detail
            if error.code == "too-deep":
                detail += f" (admission.max_json_depth is {limits.max_json_depth})"
            return Quarantine(entry, error.code, clipped(detail, self._most_detail))
        except MemoryError:
            raise  # of this moment, perhaps, and not of this entry: it is taken again, alone
        except Exception as error:
            return Quarantine(entry, ADAPTER_FAILED, f"the adapter raised {type(error).__name__}")
