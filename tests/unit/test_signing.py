"""Standard Webhooks signatures: the published vector, an independent verifier, and what is refused."""

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from shared.secrets import Secret, matches_any
from shared.signing import new_secret, sign, signing_key, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, TIMESTAMP, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
KEY = signing_key(Secret(SECRET))


def test_the_published_vector() -> None:
    assert sign([KEY], ID, TIMESTAMP, BODY) == b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(body=st.dictionaries(st.text(), st.text()).map(lambda value: json.dumps(value).encode()))
def test_an_independent_verifier_takes_every_signature(body: bytes) -> None:
    secrets = [new_secret(), new_secret()]
    now = int(datetime.now(UTC).timestamp())
    signature = sign([signing_key(Secret(secret)) for secret in secrets], "evt_1", now, body).decode()
    headers = {"webhook-id": "evt_1", "webhook-timestamp": str(now), "webhook-signature": signature}
    for secret in secrets:  # while rotating, the old and the new both verify
        Webhook(secret).verify(body, headers)


@pytest.mark.parametrize(
    ("changes", "valid"),
    [
        ({}, True),
        ({"signatures": b"v1,AAAA v1a,xx v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}, True),
        ({"id": "msg_other"}, False),
        ({"body": BODY + b" "}, False),
        ({"timestamp": TIMESTAMP + 1}, False),
        ({"now": TIMESTAMP + 301}, False),
        ({"now": TIMESTAMP - 301}, False),
        ({"signatures": b""}, False),
        ({"signatures": b"g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}, False),
        ({"signatures": b"\xff\xfe"}, False),
        ({"keys": []}, False),
    ],
)
def test_verify(changes: dict[str, object], valid: bool) -> None:
    values: dict[str, object] = {
        "keys": [KEY],
        "id": ID,
        "timestamp": TIMESTAMP,
        "body": BODY,
        "signatures": sign([KEY], ID, TIMESTAMP, BODY),
        "now": float(TIMESTAMP),
    }
    assert verify(**{**values, **changes}) is valid  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("hunter2", "must start with whsec_"),
        ("whsec_", "24 to 64 bytes, not 0"),
        ("whsec_!!!", "not base64"),
        ("whsec_" + base64.b64encode(b"x" * 23).decode(), "not 23"),
        ("whsec_" + base64.b64encode(b"x" * 65).decode(), "not 65"),
    ],
)
def test_a_secret_that_is_none_is_refused_without_being_repeated(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as error:
        signing_key(Secret(text))
    assert len(text) <= len("whsec_") or text not in str(error.value)


def test_new_secrets_differ_and_are_valid() -> None:
    assert len({signing_key(Secret(new_secret())) for _ in range(10)}) == 10


def test_a_secret_shows_itself_nowhere() -> None:
    secret = Secret(SECRET)
    assert SECRET not in f"{secret!r} {secret} {[secret]} {secret.masked()}"


def test_matching_compares_bytes_whatever_they_are() -> None:
    secrets = [Secret("alt"), Secret("pässword")]
    assert matches_any("pässword".encode(), secrets)
    assert not matches_any("pässword".encode("latin-1"), secrets)
    assert not matches_any(b"", secrets)
    assert not matches_any(b"alt", [])
