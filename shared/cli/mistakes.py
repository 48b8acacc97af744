"""What `headrace check` warns of: mistakes in a configuration that is valid all the same."""

from collections.abc import Iterable, Iterator

import msgspec

from shared.cli.trials import Samples, filter_mistakes, glob_mistakes, samples
from shared.delivery.outgoing import endpoint_of
from shared.http import Endpoint
from shared.http.addresses import refusal
from shared.secrets import Secret
from shared.settings import Config, SourceSettings, Target
from shared.values import MemberPath

SHORTEST_SECRET = 16


def warnings_of(config: Config) -> list[str]:
    """Return what is probably a mistake, one line each, naming the key's path."""
    found = []
    if not config.sources:
        found.append("sources: there is none, so nothing can come in")
    if not config.targets:
        found.append("targets: there is none, so events are kept and sent to nobody")
    if config.sources and config.ingress.public_url is None:
        found.append(
            "ingress.public_url: is not set, so each source's URL is one of this machine, which providers"
            " cannot reach"
        )
    if config.ingress.max_body_bytes > config.admission.max_json_bytes:
        found.append(
            "ingress.max_body_bytes: is larger than admission.max_json_bytes, and what lies between goes to"
            " quarantine"
        )
    for i, source in enumerate(config.sources):
        found += [f"sources[{i}] ({source.name}): {text}" for text in _of_source(source)]
    tried = samples(config) if any(target.filter for target in config.targets) else {}
    for i, target in enumerate(config.targets):
        found += [f"targets[{i}] ({target.name}): {text}" for text in _of_target(config, target, tried)]
    return found


def credentials(source: SourceSettings) -> dict[str, tuple[Secret, ...]]:
    """Return the secrets in a source's settings, whatever its provider calls them, by key."""
    found = {}
    for field in msgspec.structs.fields(source):
        value = getattr(source, field.name)
        values = value if isinstance(value, tuple) else (value,)
        if values and all(isinstance(each, Secret) for each in values):
            found[field.encode_name] = values
    return found


def address_note(endpoint: Endpoint) -> str | None:
    """Return why no delivery may go to a target, if its URL alone tells; names are not looked up."""
    address = endpoint.known_address
    return None if address is None else refusal(address, endpoint.allow_private)


def _of_source(source: SourceSettings) -> Iterator[str]:
    yield from _misplaced(source.redact)
    for key, secrets in credentials(source).items():
        short = sum(len(secret.reveal()) < SHORTEST_SECRET for secret in secrets)
        if short:
            what = f"{short} of its {len(secrets)} is" if len(secrets) > 1 else "is"
            yield f"{key} {what} shorter than {SHORTEST_SECRET} characters, which can be guessed"


def _misplaced(redact: Iterable[MemberPath]) -> Iterator[str]:
    for path in redact:
        if path.startswith(("original.", "data.original.")):
            yield f"redact: {str(path)!r} is looked for inside of data.original, the provider's JSON"


def _of_target(config: Config, target: Target, tried: Samples) -> Iterator[str]:
    yield from glob_mistakes(config, target)
    yield from filter_mistakes(config, target, tried)
    yield from _misplaced(target.redact)
    endpoint = endpoint_of(config, target)
    note = address_note(endpoint)
    if note is not None:
        yield f"url: {note}; until then every attempt fails"
    # A name may resolve to a private address, if `allow_private` opens that.
    private = (
        bool(endpoint.allow_private) if endpoint.address is None else refusal(endpoint.address) is not None
    )
    if endpoint.scheme == "http" and not private and note is None:
        yield "url: http:// lets everyone on the way read the events: use https://"
