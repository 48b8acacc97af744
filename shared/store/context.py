"""Source and type of an event, from its id and its stored attributes alone."""

import msgspec

from shared.event.ids import source_tag

_PREFIX = "/sources/"


class Context(msgspec.Struct, frozen=True):
    """The CloudEvents source, and the canonical type."""

    source: str
    type: str

    @property
    def source_name(self) -> str:
        """The name of the source in the configuration."""
        return self.source.removeprefix(_PREFIX)


read_context = msgspec.json.Decoder(Context).decode
"""Reads stored attributes."""


def of_source(event_id: str, source: str | None) -> bool:
    """Tell by its id whether an event is from a source; for None, always true."""
    return source is None or event_id[15:23] == source_tag(source)
