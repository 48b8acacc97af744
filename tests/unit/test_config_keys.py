"""Any change of any key of the configuration is seen, and taken up by a reload or said to need a restart."""

from itertools import combinations
from pathlib import Path

import pytest
import trustme

from shared.config.check import parse_config
from shared.config.file import read_config
from shared.config.reload import ConfigFile
from shared.delivery.outgoing import endpoint_of

from .config_keys import Key, keys, toml

KEYS = keys()


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the two certificates that values name."""
    folder = tmp_path_factory.mktemp("files")
    authority = trustme.CA()
    for name in ("a.pem", "b.pem"):
        authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(folder / name))
    return folder


@pytest.mark.case(n=48)
@pytest.mark.parametrize("key", KEYS, ids=[key.label for key in KEYS])
def test_two_values_of_a_key_are_two_configurations(key: Key, files: Path) -> None:
    configs = [parse_config(key.tree(value), files) for value in key.values]
    assert len(configs) >= 2
    for one, other in combinations(configs, 2):
        assert one != other
    again = [parse_config(key.tree(value), files) for value in key.values]
    assert configs == again, "what is the same is no change"


@pytest.mark.case(n=48)
@pytest.mark.parametrize("key", KEYS, ids=[key.label for key in KEYS])
def test_a_reload_takes_up_each_value_after_each_other(key: Key, files: Path) -> None:
    path = files / "headrace.toml"
    values = [*key.values, *reversed(key.values[:-1])]
    path.write_text(toml(key.tree(values[0])))
    file = ConfigFile(path)
    for value in values[1:]:
        path.write_text(toml(key.tree(value)))
        assert file.reload(always=True), "it is another configuration"
        assert file.config == read_config(path)
        assert not file.reload(always=True), "it is the same"


@pytest.mark.case(n=48)
def test_a_target_that_may_reach_private_addresses_may_no_more_after_a_reload(tmp_path: Path) -> None:
    """The change that was dropped: `true` and `false` compared equal."""
    [key] = [key for key in KEYS if key.path == "targets.allow_private"]
    path = tmp_path / "headrace.toml"
    path.write_text(toml(key.tree(True)))
    file = ConfigFile(path)
    path.write_text(toml(key.tree(False)))
    assert file.reload(always=True)
    [target] = file.config.targets
    assert endpoint_of(file.config, target).allow_private == ()
