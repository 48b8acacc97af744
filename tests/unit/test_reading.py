"""Reading what was received: an event with its targets and transaction, or a reason for quarantine."""

import threading
from typing import Any

import msgspec
import pytest

from shared.config.check import parse_config
from shared.errors import ConfigError, Unreadable
from shared.routing.reading import ADAPTER_FAILED, Reader
from shared.store import keys
from shared.store.admission import Admission, Entry, Quarantine

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DAY_MS = 86_400_000


def reader(**source: Any) -> Reader:
    table = {"name": "trustshare", "provider": "trustshare", "secrets": ["s"]} | source
    target = {"name": "ledger", "url": "https://ledger.example.com/", "secret": SECRET}
    return Reader(parse_config({"sources": [table], "targets": [target]}))


def limited(**sections: Any) -> Reader:
    table = {"name": "trustshare", "provider": "trustshare", "secrets": ["s"]}
    return Reader(parse_config({"sources": [table], **sections}))


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


def nested(depth: int) -> bytes:
    """A trustshare event whose body nests `depth` levels."""
    return b'{"type":"dispute_raised","token":"t","x":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(
    ("limits", "body", "code"),
    [
        ({}, nested(128), None),
        ({}, nested(129), "too-deep"),
        ({"max_json_depth": 512}, nested(512), None),
        ({"max_json_depth": 512}, nested(513), "too-deep"),
        ({"max_json_depth": 3}, nested(3), None),
        ({"max_json_depth": 3}, nested(4), "too-deep"),
        ({"max_json_depth": 3}, nested(100_000), "too-deep"),
        ({"max_json_depth": 3}, b"[" * 100, "not-json"),  # deep or not, it is worse than that
        ({"max_json_depth": 1}, b'{"type":"dispute_raised","token":"[[[[{{{{"}', None),
        ({"max_json_bytes": len(nested(2))}, nested(2), None),
        ({"max_json_bytes": len(nested(2)) - 1}, nested(2), "too-large"),
        ({"max_json_bytes": 1, "max_json_depth": 1}, b"\xff\xff", "too-large"),
    ],
)
def test_what_is_beyond_the_limits_of_admission_is_quarantined_naming_the_key(
    limits: dict[str, int], body: bytes, code: str | None
) -> None:
    read = limited(admission=limits).read(Entry("1767225600123-0", "trustshare", body, {}))
    assert (read.code if isinstance(read, Quarantine) else None) == code
    if isinstance(read, Quarantine) and code != "not-json":
        key = "admission.max_json_bytes" if code == "too-large" else "admission.max_json_depth"
        assert key in read.detail
        assert str(limits.get(key.removeprefix("admission."), 128)) in read.detail


def test_the_deepest_that_may_be_configured_is_read_by_an_expression_in_a_worker_s_thread() -> None:
    """Deeper than all who walk a body can go, a raised limit would make every worker fail on it."""
    source = {
        **{"name": "billing", "provider": "standard-webhooks", "secrets": [SECRET]},
        **{"type": "body.type", "transaction": "body.id"},
    }
    target = {
        "name": "ledger",
        "url": "https://ledger.example.com/",
        "secret": SECRET,
        "filter": "type == 'a'",
    }
    settings = {"sources": [source], "targets": [target], "admission": {"max_json_depth": 512}}
    deep = Reader(parse_config(settings))
    body = b'{"type":"a","id":"i","x":' + b'{"y":' * 511 + b"1" + b"}" * 512
    entry = Entry("1767225600123-0", "billing", body, {"webhook-id": "msg_1"})
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(deep.read(entry)))
    thread.start()
    thread.join()
    assert isinstance(found[0], Admission), found[0]
    assert found[0].targets == ["ledger"]


def test_a_reason_is_kept_as_far_as_the_configuration_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise Unreadable("odd", "ä" * 100)

    monkeypatch.setattr("shared.providers.trustshare.Trustshare.normalise", fail)
    read = limited(retention={"max_error_bytes": 65}).read(entry({}))
    assert isinstance(read, Quarantine)
    assert read.detail == "ä" * 32, "whole characters"


def test_no_memory_is_no_fault_of_the_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("shared.providers.trustshare.Trustshare.normalise", fail)
    with pytest.raises(MemoryError):
        reader().read(entry({}))


def test_a_source_has_the_window_of_the_configuration_or_its_own() -> None:
    assert reader().window_ms("trustshare") == 7 * DAY_MS
    assert reader(window="30d").window_ms("trustshare") == 30 * DAY_MS
    assert reader().resend_ms("trustshare") == 3_600_000
    assert reader(resend_window="10m").resend_ms("trustshare") == 600_000
    assert reader(window="1m").resend_ms("trustshare") == 60_000, "no longer than the window"
    for wrong in ("30", 30, "0s", ""):
        with pytest.raises(ConfigError, match=r"^sources\[0\]\.window"):
            reader(window=wrong)


def test_only_configured_sources_are_known() -> None:
    assert (reader().knows("trustshare"), reader().knows("trustap")) == (True, False)
