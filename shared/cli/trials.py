"""Trying a target's filter and globs on the providers' sample events: what can never match is a mistake."""

import fnmatch
from collections.abc import Iterator, Mapping

import msgspec

from shared.event.record import Attributes, Data, filter_context
from shared.event.types import HANDSHAKE, STATUS_OF
from shared.nearest import did_you_mean
from shared.providers import ADAPTERS
from shared.providers import samples as sample_bodies
from shared.routing.matching import NO_BOOLEAN, NO_FIELD, Filter, source_matches
from shared.routing.reading import Reader
from shared.settings import Config, Target
from shared.store.admission import Admission, Entry

Samples = Mapping[str, list[dict[str, object]]]
"""Source → its provider's sample events, as a filter sees them."""


def samples(config: Config) -> Samples:
    """Return the sample events as they would come in by each source, without those that its adapter cannot
    read.
    """
    reader = Reader(config)
    found: dict[str, list[dict[str, object]]] = {}
    for source in config.sources:
        bodies = sample_bodies(source.provider).values()
        read = [reader.read(Entry("1-0", source.name, body, {})) for body in bodies]
        found[source.name] = [_context(each) for each in read if isinstance(each, Admission)]
    return found


def glob_mistakes(config: Config, target: Target) -> Iterator[str]:
    """Return a line for each glob of a target that can never match."""
    names = [source.name for source in config.sources]
    for pattern in target.sources:
        if not fnmatch.filter(names, pattern):
            yield f"sources: {pattern!r} matches no source{did_you_mean(pattern, names)}"
    if _takes_own_types(config, target):
        return
    # A handshake is recorded and sent to nobody.
    types = [type_ for type_ in STATUS_OF if type_ != HANDSHAKE]
    families = dict.fromkeys(f"{type_.partition('.')[0]}.*" for type_ in types)
    for pattern in target.events:
        if not any(fnmatch.fnmatchcase(type_, pattern) for type_ in types):
            near = did_you_mean(pattern, families if "*" in pattern else types)
            yield f"events: {pattern!r} matches no event type that is sent{near}"


def filter_mistakes(config: Config, target: Target, tried: Samples) -> Iterator[str]:
    """Return a line if a target's filter is true for none of the sample events, with the reason."""
    if target.filter is None:
        return
    passes = Filter(target.filter)
    reasons: dict[str, str | None] = {}
    for source, contexts in tried.items():
        if source_matches(target, source):
            reasons |= {str(context["type"]): passes.why_not(context) for context in contexts}
    odd = [type_ for type_, reason in reasons.items() if reason == NO_BOOLEAN]
    if odd:
        yield f"filter: it {NO_BOOLEAN} for {', '.join(sorted(odd)[:3])}: only true lets an event pass"
    absent = {reason for reason in reasons.values() if reason is not None and reason.startswith(NO_FIELD)}
    if (
        reasons
        and len(absent) == 1
        and absent == set(reasons.values())
        and not _takes_own_types(config, target)
    ):
        yield f"filter: it {absent.pop()}, in none of the providers' sample events"


def _takes_own_types(config: Config, target: Target) -> bool:
    """Tell whether a target takes events of a source whose sender has types and fields of its own."""
    return any(
        ADAPTERS[source.provider].names_own_types and source_matches(target, source.name)
        for source in config.sources
    )


def _context(read: Admission) -> dict[str, object]:
    return filter_context(
        msgspec.json.decode(read.attributes, type=Attributes), msgspec.json.decode(read.data, type=Data)
    )
