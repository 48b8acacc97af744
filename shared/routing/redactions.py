"""What is redacted of an event on its way to a target: what its source, its provider and the target say."""

from collections.abc import Iterable

from shared.event.ids import source_tag, tag_of
from shared.event.record import EventRecord
from shared.event.redaction import Redaction
from shared.providers import ADAPTERS, make_adapter
from shared.settings import Config, Target


class Redactions:
    """The redactions of one target."""

    def __init__(self, config: Config, target: Target) -> None:
        self._target = target
        self._of_source = {
            source_tag(source.name): self._redaction(source.provider, make_adapter(source).redacted())
            for source in config.sources
        }

    def __call__(self, event: EventRecord) -> EventRecord:
        """Return an event as the target may get it: the same one, if nothing of it is redacted.

        The keys of a source that left the configuration are gone with it. What its provider redacts by
        default still is.
        """
        try:
            redaction = self._of_source[tag_of(event.id)]
        except KeyError:
            adapter = ADAPTERS.get(event.provider)
            redaction = self._redaction(event.provider, adapter.redacted_by_default if adapter else ())
        return event if redaction is None else redaction(event)

    def _redaction(self, provider: str, paths: Iterable[str]) -> Redaction | None:
        paths = (*paths, *self._target.redact)
        adapter = ADAPTERS.get(provider)
        return Redaction(paths, adapter.read_from if adapter else {}) if paths else None
