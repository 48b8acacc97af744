"""What holds of every adapter, whatever is sent to it."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iso4217 import Currency

from shared import providers
from shared.errors import NoSuchSource, NotVerified, Unreadable
from shared.event import money
from shared.event.canonical import Event, Money
from shared.event.jsonbody import Number
from shared.event.types import STATUS_OF
from shared.providers import ADAPTERS
from shared.providers.base import Adapter, HeadVerdict, Verdict
from tests.unit.sources import SAMPLES, basic, read, request, sample, source

SOURCES = [source(provider) for provider in sorted(ADAPTERS)] + [source("truust", event="Order Published")]
SOURCES += [
    source(
        "standard-webhooks",
        type="body.data.type",
        transaction="body.id",
        payment="body.data.id",
        amount="body.amount",
        currency="body.currency",
        status="body.status.startsWith('p') ? body.status : body.data.status",
        time="body.time",
    )
]
OWN_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}")
CANARY = "canary@example.com"
EXPONENTS = {currency.code: currency.exponent for currency in Currency if currency.exponent is not None}

checked = settings(max_examples=150, deadline=None)

every_source = st.sampled_from(SOURCES)


def names_in(value: Any) -> set[str]:
    """Return every key of a sample, at whatever depth."""
    if not isinstance(value, dict):
        return set()
    return set(value).union(*map(names_in, value.values()))


NAMES = set().union(*(names_in(sample(name)) for name in SAMPLES))
NAMES |= {"data", "attributes", "payload", "event", "id"}
NAMES |= {"order", "order_id", "payout", "pricing", "tracking"}
WORDS = ["Order Published", "PUBLISHED", "FAILED", "basic_tx.paid", "tx.paid", "payment_received", "COMPLETE"]
WORDS += ["PaymentStatusChanged", "wh_evt_1", "GBP", "eur", "1.50", "150.00 €", "2025-04-09T10:08:42Z", "{}"]
WORDS += [CANARY]
text = st.text(max_size=12) | st.sampled_from(WORDS)
keys = st.text(max_size=4) | st.sampled_from(sorted(NAMES))
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
any_json = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=6),
    max_leaves=30,
)


def outcome(adapter: Adapter[Any], body: bytes) -> Event | None:
    """Return the event; None where the body is unreadable and the error keeps its values to itself."""
    shown = None
    try:
        return read(adapter, body)
    except Unreadable as error:
        shown = str(error)
    assert CANARY not in shown
    return None


def assert_is_sound(adapter: Adapter[Any], event: Event) -> None:
    """Check that the event can be stored and sent as it is."""
    assert event.type in STATUS_OF or (adapter.names_own_types and OWN_TYPE.fullmatch(event.type))
    assert json.loads(json.dumps(event.details)) == event.details
    assert msgspec.json.decode(msgspec.json.encode(event), type=Event) == event
    for name in (event.subject, event.transaction_id, event.payment_id, event.provider_event, event.time):
        assert name is None or (name and not any(unicodedata.category(char) == "Cc" for char in name))
    if event.dedupe is not None:
        assert event.type != "provider.unknown" or event.dedupe.parts[0].startswith("wh_evt_")


@pytest.mark.case(n=40)
@checked
@given(every_source, st.binary(max_size=200))
def test_any_bytes_are_an_event_or_unreadable(adapter: Adapter[Any], body: bytes) -> None:
    event = outcome(adapter, body)
    if event is not None:
        assert_is_sound(adapter, event)


@pytest.mark.case(n=40)
@checked
@given(every_source, any_json)
def test_any_json_is_an_event_or_unreadable(adapter: Adapter[Any], body: Any) -> None:
    event = outcome(adapter, json.dumps(body).encode())
    if event is not None:
        assert_is_sound(adapter, event)


@pytest.mark.case(n=40)
@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_a_sample_with_anything_in_any_place_is_an_event_or_unreadable(
    name: str, data: st.DataObject
) -> None:
    body = sample(name)
    holder: Any = body
    while True:
        key = data.draw(st.sampled_from(sorted(holder)))
        if not isinstance(holder[key], dict) or not holder[key] or data.draw(st.booleans()):
            break
        holder = holder[key]
    holder[key] = data.draw(any_json)
    for adapter in SOURCES:
        if adapter.provider == name.partition("/")[0]:
            event = outcome(adapter, json.dumps(body).encode())
            if event is not None:
                assert_is_sound(adapter, event)


AMOUNTS = ["1e%s" % ("0" * 5000), "1e5000", "-0", "1E+2", "0e99999999999", "1e-0%s1" % ("0" * 5000)]
AMOUNTS += ["9" * 4300, "9" * 4301, "0.%s1" % ("0" * 5000), "-1e+%s2" % ("0" * 9)]


@pytest.mark.case(n=55)
@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("amount", AMOUNTS)
def test_a_sample_with_an_odd_amount_is_an_event_or_unreadable(name: str, amount: str) -> None:
    """Any other error would be the adapter's failure, and hide what is wrong with the body."""
    body = SAMPLES[name]
    for adapter in SOURCES:
        if adapter.provider == name.partition("/")[0]:
            for changed in each_number_replaced(body, amount.encode()):
                outcome(adapter, changed)


def each_number_replaced(body: bytes, number: bytes) -> Iterator[bytes]:
    """Return the body with one of its numbers written in another way, for each of them."""
    for found in re.finditer(rb"(?<=[:\[,\s])-?[0-9][0-9.eE+-]*(?=[,}\]\s])", body):
        yield body[: found.start()] + number + body[found.end() :]


@pytest.mark.case(n=40)
@checked
@given(st.sampled_from(sorted(SAMPLES)), st.integers(0, 2000), st.binary(max_size=3))
def test_a_damaged_sample_is_an_event_or_unreadable(name: str, at: int, bytes_put: bytes) -> None:
    body = SAMPLES[name]
    at %= len(body)
    outcome(source(name.partition("/")[0]), body[:at] + bytes_put + body[at + len(bytes_put) + 1 :])


def reordered(value: Any, shuffle: Callable[[list[str]], list[str]]) -> Any:
    if isinstance(value, dict):
        return {key: reordered(value[key], shuffle) for key in shuffle(list(value))}
    return value


@checked
@given(st.sampled_from(sorted(SAMPLES)), st.randoms(use_true_random=False), st.sampled_from([None, 0, 4]))
def test_neither_key_order_nor_white_space_changes_an_event(
    name: str, random: Any, indent: int | None
) -> None:
    adapter = source(name.partition("/")[0])
    body = reordered(sample(name), lambda names: random.sample(names, len(names)))
    rewritten = read(adapter, json.dumps(body, indent=indent).encode())
    assert rewritten == read(adapter, SAMPLES[name])


IDENTIFYING = [
    ("truust/EscrowPublished", path) for path in ("escrow.id", "escrow.status", "payin.id", "payin.status")
] + [
    ("trustap/basic_tx-joined", "code"),
    ("trustap/basic_tx-joined", "target_id"),
    ("trustap/basic_tx-joined", "time"),
    ("trustap/p2p_tx-joined", "user_id"),
    ("trustshare/transaction_initiated", "token"),
    ("trustshare/payment_received", "paymentToken"),
    ("trustshare/payment_paused", "paymentToken"),
    ("trustshare/payment_paused", "reason"),
    ("trustshare/dispute_raised", "token"),
    ("trustist/PaymentStatusChanged-FAILED", "paymentId"),
    ("trustist/PaymentStatusChanged-FAILED", "status"),
    ("trustist/InvitationStatusChanged-OPENED", "invitationId"),
]


@pytest.mark.parametrize(("name", "path"), IDENTIFYING)
@checked
@given(value=st.text(min_size=1, max_size=20) | st.integers(min_value=1))
def test_another_value_in_an_identifying_field_is_never_the_same_event(
    name: str, path: str, value: Any
) -> None:
    adapter = source(name.partition("/")[0])
    body = sample(name)
    holder, _, field = path.rpartition(".")
    place = body[holder] if holder else body
    if str(value) == str(place[field]):
        return
    before = read(adapter, body).dedupe
    place[field] = value
    assert before is not None
    assert read(adapter, body).dedupe != before


@checked
@given(st.sampled_from(sorted(EXPONENTS)), st.integers(-(2**63), 2**63 - 1))
def test_an_amount_survives_the_way_to_major_units_and_back(currency: str, minor: int) -> None:
    digits = EXPONENTS[currency]
    padded = str(abs(minor)).rjust(digits + 1, "0")
    major = ("-" if minor < 0 else "") + padded[: len(padded) - digits]
    if digits:
        major += "." + padded[-digits:]
    assert money.from_major(Number(major), currency.lower()) == Money(minor, currency)
    assert money.from_major(major, currency) == Money(minor, currency)
    assert money.from_major(Number(f"{minor}e-{digits}"), currency) == Money(minor, currency)
    assert money.from_minor(minor, currency) == Money(minor, currency)


PROOFS = {name for each in SOURCES for name, _ in each.credential_headers(b"", id="", now=0)}
HEADER_NAMES = [*(name.encode() for name in sorted(PROOFS)), b"host", b"svix-signature"]
headers = st.lists(
    st.tuples(st.sampled_from(HEADER_NAMES), st.binary(max_size=40)) | st.binary(max_size=20).map(basic),
    max_size=3,
)


@pytest.mark.case(n=31)
@checked
@given(every_source, headers, st.none() | st.text(max_size=8), st.binary(max_size=30))
def test_a_stranger_is_refused_and_nothing_else_is_raised(
    adapter: Adapter[Any], sent: list[tuple[bytes, bytes]], token: str | None, body: bytes
) -> None:
    inbound = request(*sent, token=token, body=body)
    try:
        head: HeadVerdict | None = adapter.verify_head(inbound)
    except (NotVerified, NoSuchSource):
        head = None
    try:
        verdict = adapter.verify(inbound)
    except (NotVerified, NoSuchSource):
        return
    assert verdict is Verdict.ANSWER_ONLY
    assert head is not None, "what the head alone refuses is refused whatever the body is"
    assert not head.proven
    assert head.max_body_bytes is not None
    assert len(body) <= head.max_body_bytes


def test_every_folder_of_a_provider_is_registered_under_its_name() -> None:
    folders = {path.parent.name for path in Path(providers.__file__).parent.glob("*/__init__.py")}
    assert set(ADAPTERS) == {name.replace("_", "-") for name in folders}
    assert all(adapter.provider == provider for provider, adapter in ADAPTERS.items())
