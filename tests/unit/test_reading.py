"""Reading what was received: an event with its targets and transaction, or a reason for quarantine."""

from typing import Any

import msgspec
import pytest

from shared.configcheck import parse_config
from shared.errors import ConfigError
from shared.reading import ADAPTER_FAILED, Reader
from shared.store import keys
from shared.store.admission import Admission, Entry, Quarantine

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DAY_MS = 86_400_000


def reader(**source: Any) -> Reader:
    table = {"name": "trustshare", "provider": "trustshare", "secrets": ["s"]} | source
    target = {"name": "ledger", "url": "https://ledger.example.com/", "secret": SECRET}
    return Reader(parse_config({"sources": [table], "targets": [target]}))


def entry(body: Any) -> Entry:
    return Entry("1767225600123-0", "trustshare", msgspec.json.encode(body), {})


def test_an_event_is_read_with_its_targets_and_its_transaction() -> None:
    read = reader().read(entry({"type": "dispute_raised", "token": "t"}))
    assert isinstance(read, Admission)
    assert (read.targets, read.transaction) == (["ledger"], keys.transaction("trustshare", "t"))
    assert read.transaction != keys.transaction("truust", "t")


def test_a_handshake_goes_nowhere_and_belongs_to_no_transaction() -> None:
    read = reader().read(entry({"type": "handshake"}))
    assert isinstance(read, Admission)
    assert (read.targets, read.transaction) == ((), "")


def test_what_cannot_be_read_is_quarantined_with_the_reason() -> None:
    read = reader().read(entry([]))
    assert isinstance(read, Quarantine)
    assert read.code == "not-an-object"


@pytest.mark.parametrize("error", [ValueError("canary"), RecursionError(), KeyError("canary")])
def test_an_adapter_that_fails_quarantines_and_tells_no_values(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("shared.providers.trustshare.Trustshare.normalise", fail)
    read = reader().read(entry({}))
    assert isinstance(read, Quarantine)
    assert (read.code, read.detail) == (ADAPTER_FAILED, f"the adapter raised {type(error).__name__}")


def test_no_memory_is_no_fault_of_the_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("shared.providers.trustshare.Trustshare.normalise", fail)
    with pytest.raises(MemoryError):
        reader().read(entry({}))


def test_a_source_has_the_window_of_the_configuration_or_its_own() -> None:
    assert reader().window_ms("trustshare") == 7 * DAY_MS
    assert reader(window="30d").window_ms("trustshare") == 30 * DAY_MS
    for wrong in ("30", 30, "0s", ""):
        with pytest.raises(ConfigError, match=r"^sources\[0\]\.window"):
            reader(window=wrong)


def test_only_configured_sources_are_known() -> None:
    assert (reader().knows("trustshare"), reader().knows("trustap")) == (True, False)
