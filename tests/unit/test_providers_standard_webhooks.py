"""Standard Webhooks as a provider: the published vector, malformed headers, what expressions find."""

from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from shared.cli.mistakes import warnings_of
from shared.config.check import parse_config
from shared.delivery.signing import new_asymmetric_secret
from shared.errors import ConfigError, NoSuchSource, NotVerified, Unreadable
from shared.event.canonical import DedupeKey, Event, Money
from shared.event.record import data_of
from shared.providers.base import Adapter, InboundRequest, RawEvent, Verdict
from tests.unit.sources import DEFAULTS, NOW, source

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + b64encode(b"another secret of 28 bytes..").decode()
ID, BODY = b"msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}'
SIGNATURE = b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
AT = b"1614265330"
WEBHOOKS = source("standard-webhooks", secrets=[OTHER, SECRET])


def sent(prefix: bytes = b"webhook-", **changes: bytes | None) -> list[tuple[bytes, bytes]]:
    """Return the headers of the published vector, with changes; None leaves one out."""
    values = {"id": ID, "timestamp": AT, "signature": SIGNATURE, **changes}
    return [(prefix + name.encode(), value) for name, value in values.items() if value is not None]


def verdict(headers: list[tuple[bytes, bytes]], body: bytes = BODY, *, at: float = NOW) -> Verdict:
    return WEBHOOKS.verify(InboundRequest(headers=headers, path_token=None, body=body, received_at=at))


def test_the_published_vector_holds_under_either_name_of_the_headers() -> None:
    assert verdict(sent()) is Verdict.STORE
    assert verdict(sent(b"svix-")) is Verdict.STORE
    assert verdict([(b"host", b"x"), *sent(signature=b"v1,AAAA v1a,xyz " + SIGNATURE)]) is Verdict.STORE


def test_a_request_signed_by_the_standard_s_own_library_is_taken() -> None:
    moment = datetime.fromtimestamp(int(NOW), UTC)
    signature = Webhook(OTHER).sign("msg_1", moment, '{"a":"ü"}').encode()
    assert verdict(sent(id=b"msg_1", signature=signature), '{"a":"ü"}'.encode()) is Verdict.STORE


@pytest.mark.parametrize("late", [-300, 300])
def test_five_minutes_are_tolerated_and_no_second_more(late: int) -> None:
    assert verdict(sent(), at=NOW + late) is Verdict.STORE
    with pytest.raises(NotVerified):
        verdict(sent(), at=NOW + late + (1 if late > 0 else -1))


MALFORMED = {
    "no headers": [],
    "no id": sent(id=None),
    "no timestamp": sent(timestamp=None),
    "no signature": sent(signature=None),
    "empty id": sent(id=b""),
    "empty timestamp": sent(timestamp=b""),
    "empty signature": sent(signature=b""),
    "an id that is not ASCII": sent(id=b"msg_\xff\xfe"),
    "an id with a control character": sent(id=b"msg_\x001"),
    "an id with a space": sent(id=ID + b" x"),
    "an id without end": sent(id=b"m" * 5000),
    "a timestamp in words": sent(timestamp=b"yesterday"),
    "a timestamp with a sign": sent(timestamp=b"+" + AT),
    "a timestamp below zero": sent(timestamp=b"-1"),
    "a timestamp with a fraction": sent(timestamp=AT + b".0"),
    "a timestamp with underscores": sent(timestamp=b"1_614_265_330"),
    "a timestamp in other digits": sent(timestamp="١٦١٤٢٦٥٣٣٠".encode()),
    "a timestamp with white space": sent(timestamp=b" " + AT),
    "a timestamp past every calendar": sent(timestamp=b"9" * 5000),
    "a timestamp in milliseconds": sent(timestamp=AT + b"000"),
    "a timestamp with a zero before it": sent(timestamp=b"0" + AT),
    "a timestamp not signed": sent(timestamp=b"1614265331"),
    "another id": sent(id=b"msg_other"),
    "a signature without version": sent(signature=SIGNATURE[3:]),
    "a signature of version 2": sent(signature=b"v2," + SIGNATURE[3:]),
    "an asymmetric signature": sent(signature=b"v1a," + SIGNATURE[3:]),
    "a signature that is not base64": sent(signature=b"v1,!!!"),
    "a signature that is not ASCII": sent(signature=b"v1,\xff\xff"),
    "a signature cut short": sent(signature=SIGNATURE[:-4]),
    "signatures joined by commas": sent(signature=SIGNATURE + b"," + SIGNATURE),
    "a thousand wrong signatures": sent(signature=b" ".join([b"v1,AAAA"] * 1000)),
    "the id twice": [*sent(), (b"webhook-id", ID)],
    "the timestamp twice": [*sent(), (b"webhook-timestamp", AT)],
    "the signature twice": [*sent(), (b"webhook-signature", SIGNATURE)],
    "half of either name": [*sent(id=None), (b"svix-id", ID)],
    "a webhook-id put before another's svix headers": [(b"webhook-id", b"fresh"), *sent(b"svix-")],
}


@pytest.mark.parametrize("headers", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_headers_of_every_kind_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(NotVerified):
        verdict(headers)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [p + n for p in (b"webhook-", b"svix-") for n in (b"id", b"timestamp", b"signature")]
            ),
            st.binary(max_size=60) | st.sampled_from([ID, AT, b"", b"NaN", b"1e9", b"v1,", b" "]),
        ),
        max_size=6,
    ),
    st.binary(max_size=40),
    st.floats(0, 1e11),
)
def test_whatever_the_headers_are_nothing_else_is_raised(
    headers: list[tuple[bytes, bytes]], body: bytes, at: float
) -> None:
    with pytest.raises(NotVerified):
        verdict(headers, body, at=at)


@pytest.mark.parametrize("body", [BODY + b" ", BODY.replace(b": ", b":"), b""])
def test_the_signature_is_of_the_raw_bytes(body: bytes) -> None:
    with pytest.raises(NotVerified):
        verdict(sent(), body)


def test_its_path_takes_no_token() -> None:
    with pytest.raises(NoSuchSource):
        WEBHOOKS.verify(InboundRequest(headers=sent(), path_token="x", body=BODY, received_at=NOW))


def test_a_simulated_request_is_verified_by_the_standard_s_own_library_and_by_the_adapter() -> None:
    headers = dict(WEBHOOKS.credential_headers(BODY, id="msg_1", now=NOW + 0.9))
    given_headers = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert verdict(given_headers) is Verdict.STORE
    assert headers["webhook-timestamp"] == AT.decode()


def read(adapter: Adapter[Any], body: bytes, **headers: str) -> Event:
    return adapter.normalise(
        RawEvent(body, {name.replace("_", "-"): value for name, value in headers.items()})
    )


HEADRACE = {
    "provider_event": "body.data.provider_event",
    "transaction": "body.data.transaction_id",
    "payment": "body.data.payment_id",
    "amount_minor": "body.data.money.amount_minor",
    "currency": "body.data.money.currency",
    "status": "body.data.status",
}
"""What shared/providers/README.md tells to write for another Headrace's events."""

STANDARD = (
    b'{"type":"payment.received","timestamp":"2026-03-02T10:01:44.123Z","data":{"provider":"trustshare",'
    b'"provider_event":"payment_received","transaction_id":"t1","payment_id":"p1","parties":{},'
    b'"money":{"amount_minor":150000,"currency":"GBP"},"status":"funded","occurred_at":null,"original":{}}}'
)


def test_the_payload_of_the_standard_needs_no_expression() -> None:
    event = read(source("standard-webhooks"), STANDARD, webhook_id="evt_1")
    assert event == Event(
        type="payment.received",
        provider_event="payment.received",
        time="2026-03-02T10:01:44.123Z",
        occurred_at="2026-03-02T10:01:44.123Z",
        dedupe=DedupeKey(("evt_1",)),
    )


def test_another_headrace_s_event_is_read_by_expressions() -> None:
    event = read(
        source("standard-webhooks", **HEADRACE, time="body.data.occurred_at"), STANDARD, webhook_id="e"
    )
    assert event == Event(
        type="payment.received",
        provider_event="payment_received",
        subject="t1",
        transaction_id="t1",
        payment_id="p1",
        money=Money(150000, "GBP"),
        status="funded",
        provider_status="funded",
        dedupe=DedupeKey(("e",)),
    )
    assert data_of(event, provider="standard-webhooks").status == "funded"


def test_the_id_is_the_identity_whatever_the_body_and_the_header_s_name() -> None:
    first, second = read(WEBHOOKS, b'{"type":"a"}', webhook_id="x"), read(WEBHOOKS, b"[]", svix_id="x")
    assert first.dedupe == second.dedupe == DedupeKey(("x",))
    assert read(WEBHOOKS, b"{}", webhook_id="signed", svix_id="not").dedupe == DedupeKey(("signed",))
    assert read(WEBHOOKS, b"{}").dedupe is None


@pytest.mark.parametrize(
    ("body", "type_"),
    [
        (b'{"type":"subscription.renewed"}', "subscription.renewed"),
        (b'{"type":"InvoicePaid"}', "InvoicePaid"),
        (b"{}", "provider.unknown"),
        (b'{"type":null}', "provider.unknown"),
        (b'{"type":7}', "7"),
        (b'{"type":["x"]}', "provider.unknown"),
        (b'{"type":"a b"}', "provider.unknown"),
        (b'{"type":"a\\u0000"}', "provider.unknown"),
        (b'{"type":""}', "provider.unknown"),
        (b"[1]", "provider.unknown"),
        (b"null", "provider.unknown"),
        (b'"type"', "provider.unknown"),
    ],
)
def test_a_type_may_be_outside_the_table_and_must_be_a_name(body: bytes, type_: str) -> None:
    event = read(WEBHOOKS, body)
    assert event.type == type_
    assert data_of(event, provider="standard-webhooks").status is None


def test_a_table_in_the_expression_maps_the_sender_s_names() -> None:
    adapter = source("standard-webhooks", type="{'order.paid': 'payment.received'}[body.type]")
    paid = read(adapter, b'{"type":"order.paid"}')
    assert (paid.type, paid.provider_event) == ("payment.received", "order.paid")
    assert data_of(paid, provider="standard-webhooks").status == "funded"
    other = read(adapter, b'{"type":"order.seen"}')
    assert (other.type, other.provider_event) == ("provider.unknown", "order.seen")


def test_a_status_counts_for_a_type_outside_the_table_and_never_for_one_inside() -> None:
    adapter = source("standard-webhooks", status="body.state")
    renewed = read(adapter, b'{"type":"subscription.renewed","state":"active"}')
    assert data_of(renewed, provider="standard-webhooks").status == "active"
    paid = read(adapter, b'{"type":"payment.received","state":"active"}')
    assert data_of(paid, provider="standard-webhooks").status == "funded"
    assert paid.provider_status == "active"


MAJOR = {"amount": "body.a", "currency": "body.c"}
MINOR = {"amount_minor": "body.a", "currency": "body.c"}


@pytest.mark.parametrize(
    ("keys", "token", "minor"),
    [
        (MAJOR, b"1049.10", 104910),
        (MAJOR, b"0.1", 10),
        (MAJOR, b"90071992547409.93", 9007199254740993),  # a float would say …92
        (MAJOR, b"1.5e1", 1500),
        (MAJOR, b"15", 1500),
        (MAJOR, b'"15.00"', 1500),
        (MAJOR, b'"15.00 GBP"', 1500),
        (MINOR, b"9007199254740993", 9007199254740993),
        (MINOR, b"9223372036854775807", 9223372036854775807),
        (MINOR, b'"1500"', 1500),
        (MINOR, b"1.5e3", 1500),
        (MINOR, b"null", None),
        (MAJOR | {"amount": "body.missing"}, b"1", None),
        (MAJOR | {"amount": "body.a + body.a"}, b"2", 400),
        (MAJOR | {"currency": "'gbp'"}, b"2", 200),
    ],
)
def test_money_is_read_from_the_digits(keys: dict[str, str], token: bytes, minor: int | None) -> None:
    event = read(source("standard-webhooks", **keys), b'{"type":"x","c":"GBP","a":%s}' % token)
    assert event.money == (None if minor is None else Money(minor, "GBP"))


@pytest.mark.parametrize(
    ("keys", "token", "code"),
    [
        (MAJOR, b"0.001", "bad-amount"),
        (MAJOR, b"true", "bad-amount"),
        (MAJOR, b"[1]", "bad-amount"),
        (MAJOR, b'"much"', "bad-amount"),
        (MAJOR | {"amount": "double(body.a)"}, b"15.5", "bad-amount"),
        (MAJOR | {"amount": "15.5"}, b"0", "bad-amount"),
        (MINOR, b"1.5", "bad-amount"),
        (MINOR, b"9223372036854775808", "bad-amount"),
        (MINOR, b'"15.00 GBP"', "bad-amount"),
        (MAJOR | {"currency": "body.none"}, b"1", "unknown-currency"),
        (MAJOR | {"currency": "'XXX'"}, b"1", "unknown-currency"),
    ],
)
def test_an_amount_that_is_not_exact_is_refused(keys: dict[str, str], token: bytes, code: str) -> None:
    with pytest.raises(Unreadable) as error:
        read(source("standard-webhooks", **keys), b'{"type":"x","c":"GBP","a":%s}' % token)
    assert error.value.code == code


def test_an_event_of_no_type_is_kept_without_reading_its_money() -> None:
    event = read(source("standard-webhooks", **MAJOR), b'{"a":"odd","c":5}')
    assert (event.type, event.money) == ("provider.unknown", None)


@pytest.mark.parametrize(
    ("token", "occurred_at", "time"),
    [
        (
            b'"2026-03-02T12:01:44.1234567+02:00"',
            "2026-03-02T12:01:44.1234567+02:00",
            "2026-03-02T10:01:44.1234567Z",
        ),
        (b"1614265330", "1614265330", "2021-02-25T15:02:10Z"),
        (b"1614265330000000", "1614265330000000", None),
        (b"-1", "-1", None),
        (b"1614265330.5", "1614265330.5", None),
        (b'"yesterday"', "yesterday", None),
        (b"null", None, None),
        (b"true", None, None),
        (b"{}", None, None),
    ],
)
def test_a_time_is_rfc_3339_or_whole_seconds(token: bytes, occurred_at: str | None, time: str | None) -> None:
    event = read(WEBHOOKS, b'{"type":"x","timestamp":%s}' % token)
    assert (event.occurred_at, event.time) == (occurred_at, time)


@pytest.mark.parametrize(
    ("keys", "path", "problem"),
    [
        ({"type": "body.type +"}, ".type", "does not compile: line 1, column 12"),
        ({"transaction": "boddy.id"}, ".transaction", "knows no 'boddy': it may use body, id"),
        ({"payment": "true ? id : nobody.id"}, ".payment", "knows no 'nobody'"),
        ({"time": "timestomp(id)"}, ".time", "knows no 'timestomp'"),
        ({"type": 5}, ".type", "must be a CEL expression, written as a string"),
        ({"type": ""}, ".type", "must be a CEL expression, written as a string"),
        ({"typ": "body.type"}, ".typ", "is not a known key"),
        ({"amount": "body.a"}, "", "`currency` is missing"),
        ({"amount": "body.a", "amount_minor": "body.a", "currency": "'GBP'"}, "", "exclude each other"),
        ({"secrets": ["hunter2"]}, "", "`secrets`: one must start with whsec_"),
        ({"secrets": [new_asymmetric_secret()]}, "", "`secrets`: one must start with whsec_"),
        ({"secrets": ["whsec_AAAA"]}, "", "`secrets`: one must hold 24 to 64 bytes"),
        ({"secrets": []}, ".secrets", "is empty"),
    ],
)
def test_a_mistake_in_the_configuration_names_its_key(keys: dict[str, Any], path: str, problem: str) -> None:
    table = {"name": "s", "provider": "standard-webhooks", **DEFAULTS["standard-webhooks"], **keys}
    with pytest.raises(ConfigError) as error:
        parse_config({"sources": [table]})
    assert error.value.path == f"sources[0]{path}"
    assert problem in error.value.problem


def test_an_expression_may_use_macros_and_types() -> None:
    adapter = source(
        "standard-webhooks",
        type="body.items.exists(item, item.paid) ? 'order.paid' : 'order.open'",
        transaction="type(body.id) == int ? 'n' + string(body.id) : body.id",
    )
    event = read(adapter, b'{"items":[{"paid":true}],"id":12345678901234567890}')
    assert (event.type, event.transaction_id) == ("order.paid", "12345678901234567890")


def test_a_target_may_ask_for_types_that_only_a_sender_knows() -> None:
    sources = [{"name": "s", "provider": "standard-webhooks", **DEFAULTS["standard-webhooks"]}]
    target = {"name": "t", "url": "https://example.com", "secret": SECRET, "events": ["invoice.*"]}
    config = {"ingress": {"public_url": "https://example.org"}, "sources": sources, "targets": [target]}
    assert warnings_of(parse_config(config)) == []
    again, first = (parse_config({"sources": sources}).sources for _ in range(2))
    assert again == first, "read again, a configuration is the same"
