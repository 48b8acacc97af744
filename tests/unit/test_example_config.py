"""deploy/headrace.toml, the configuration to start from: it is valid, names every key, and shows each default."""

import re
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from shared.config.check import parse_config
from shared.config.file import read_config
from shared.settings import Config, Target
from tests.documents.markers import ROOT

from .config_keys import keys

EXAMPLE = ROOT / "deploy/headrace.toml"
NO_DEFAULT_SHOWN = {"name", "url", "secret", "events", "sources", "filter"}
"""Keys of the target that show what they are for; all others of it that stand uncommented show their default."""


def named() -> dict[str, list[Any]]:
    """Return each key that the file names, in use or as a comment, with its values; a source's by provider."""
    found: dict[str, list[Any]] = defaultdict(list)
    table = provider = ""
    for line in EXAMPLE.read_text().splitlines():
        text = line.removeprefix("# ")
        if header := re.match(r"\[+(\w+)\]", text):
            table = header[1]
        elif re.match(r"\w+ = ", text):
            [(key, value)] = tomllib.loads(text).items()
            provider = value if key == "provider" else provider
            path = f"{provider}: {table}.{key}" if table == "sources" else f"{table}.{key}"
            found[path].append(value)
            for inner, each in value.items() if isinstance(value, dict) else ():
                found[f"{path}.{inner}"].append(each)
    return found


def test_every_key_is_named() -> None:
    found = named()
    # What every source takes is shown once, with one provider or another.
    anywhere = {path.partition(": ")[2] or path for path in found}
    each = ("name", "allow_ips", "window", "resend_window", "share", "redact", "keep")
    common = {f"sources.{key}" for key in each}
    missing = [key.label for key in keys() if key.label not in found and not common & anywhere & {key.path}]
    assert missing == []


def test_no_key_is_named_that_does_not_exist() -> None:
    known = {key.label for key in keys()} | {key.path.rpartition(".")[0] for key in keys()}
    strange = [path for path in named() if path not in known and not path.endswith(("provider", "name"))]
    assert [path for path in strange if not path.startswith("targets.headers.")] == []


def test_the_file_is_valid_and_shows_each_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in re.findall(r"^[^#]*\$\{(\w+)\}", EXAMPLE.read_text(), re.MULTILINE):
        monkeypatch.setenv(name, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    config, default = read_config(EXAMPLE), Config()
    for section in ("redis", "admission", "egress", "dedupe", "retention", "limits"):
        assert getattr(config, section) == getattr(default, section), section
    ingress = parse_config({"ingress": {"public_url": config.ingress.public_url}}, tmp_path).ingress
    assert config.ingress == ingress
    [target] = config.targets
    for field in Target.__struct_fields__:
        if field not in NO_DEFAULT_SHOWN:
            plain = Target(name=target.name, url=target.url, secret=target.secret)
            assert getattr(target, field) == getattr(plain, field), field
