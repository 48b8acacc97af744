"""Reads a stored request: its source's adapter makes an event of it, and the configuration says its targets.

Admission stores the result. Nothing is logged here, as commands read requests, too.
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
"""The code in quarantine of a request on which the adapter raised another error than Unreadable."""
POISON = "poison"
"""The code in quarantine of a request that workers died of."""

_encode = msgspec.json.Encoder().encode


class Reader:
    """Reads requests of the sources of a configuration."""

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
        """Tell whether a source is configured. Requests of all others are left alone."""
        return source in self._adapters

    def window_ms(self, source: str) -> int:
        """Return how long a copy from this source is recognised as one, in milliseconds."""
        return self._windows_ms[source]

    def resend_ms(self, source: str) -> int:
        """Return how long the same bytes are a copy if the source's keys count, in milliseconds; at most
        `window_ms`.
        """
        return min(self._resends_ms[source], self._windows_ms[source])

    def in_turn(self, source: str) -> bool:
        """Tell whether only one worker at a time may admit from a source.

        That is so if an ordered target takes its events, or if its keys count.
        """
        return source in self._in_turn

    def read(self, entry: Entry) -> Admission | Quarantine:
        """Read an entry with the adapter of its source, which must be configured, and find its targets.

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
                # A handshake is recorded, and sent to no target.
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
            raise  # perhaps memory is short only now: the entry is taken again, alone
        except Exception as error:
            return Quarantine(entry, ADAPTER_FAILED, f"the adapter raised {type(error).__name__}")
