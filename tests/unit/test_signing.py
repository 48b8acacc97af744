"""Standard Webhooks signatures: the published vectors, independent verifiers, and what is refused."""

import base64
import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from shared.delivery.signing import new_asymmetric_secret, new_secret, sign, signing_key, verify
from shared.secrets import Secret, matches_any

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ASYMMETRIC = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
ID, TIMESTAMP, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
KEY = signing_key(Secret(SECRET))


def test_the_published_vector() -> None:
    assert sign([KEY], ID, TIMESTAMP, BODY) == b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_published_vector_of_ed25519() -> None:
    signature = sign([signing_key(Secret(ASYMMETRIC))], ID, TIMESTAMP, BODY)
    assert signature == (
        b"v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
    )


def test_a_public_key_verifies_what_its_secret_signed_and_nothing_else() -> None:
    key = signing_key(Secret(new_asymmetric_secret()))
    assert key.public is not None
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.public.removeprefix("whpk_")))
    signature = base64.b64decode(sign([key], "evt_1", 1, b"{}").removeprefix(b"v1a,"))
    public.verify(signature, b"evt_1.1.{}")
    with pytest.raises(InvalidSignature):
        public.verify(signature, b"evt_1.1.{ }")


@pytest.mark.case(n=35)
def test_35_while_rotating_each_secret_signs_newest_first_whatever_its_kind() -> None:
    """FAULTS 35: a target's receiver holds the old secret or the new, and verifies either way."""
    newest, old = signing_key(Secret(ASYMMETRIC)), KEY
    signatures = sign([newest, old], ID, TIMESTAMP, BODY)
    assert [each.partition(b",")[0] for each in signatures.split(b" ")] == [b"v1a", b"v1"]
    for held in (newest, old):
        assert verify([held], ID, TIMESTAMP, BODY, signatures, now=TIMESTAMP)


def test_ed25519_is_loaded_only_where_it_is_used() -> None:
    code = (
        "import sys; from shared.secrets import Secret; from shared.delivery.signing import signing_key\n"
        f"signing_key(Secret('{SECRET}')); assert 'cryptography' not in sys.modules\n"
        f"signing_key(Secret('{ASYMMETRIC}')); assert 'cryptography' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


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
        ("hunter2", "must start with whsec_ or whsk_"),
        ("whpk_" + base64.b64encode(b"x" * 32).decode(), "must start with whsec_ or whsk_"),
        ("whsk_", "64 bytes .*, not 0"),
        ("whsk_!!!", "not base64 after whsk_"),
        ("whsk_" + base64.b64encode(b"x" * 32).decode(), "64 bytes .*, not 32"),
        ("whsk_" + base64.b64encode(b"x" * 64).decode(), "not its seed's"),
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
    for make in (new_secret, new_asymmetric_secret):
        keys = [signing_key(Secret(make())) for _ in range(10)]
        assert len({key.sign(b"") for key in keys}) == 10


def test_a_secret_shows_itself_nowhere() -> None:
    secret = Secret(SECRET)
    assert SECRET not in f"{secret!r} {secret} {[secret]} {secret.masked()}"


def test_matching_compares_bytes_whatever_they_are() -> None:
    secrets = [Secret("alt"), Secret("pässword")]
    assert matches_any("pässword".encode(), secrets)
    assert not matches_any("pässword".encode("latin-1"), secrets)
    assert not matches_any(b"", secrets)
    assert not matches_any(b"alt", [])
