"""Cases 29 to 32: bodies too large, requests that can be read in two ways, odd credentials and bodies."""

import base64
import gzip
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.abuse.wire import HEAD, TRUSTED, said, statuses
from tests.acceptance.gateway import BASIC, REQUESTS, TRUSTAP_PASSWORD, TRUSTSHARE_SECRET, Answer, target
from tests.acceptance.sink import Sink
from tests.faults.watched import Watched, body
from tests.waiting import wait_for

MIB = 1024 * 1024
LIMIT = 262_144


@pytest.mark.case(n=29)
def test_a_body_over_the_limit_is_413_before_it_is_held(folder: Path, sink: Sink) -> None:
    with Watched(folder, target("all", sink.port), sink) as gateway:
        gateway.post("trustshare", body())
        sink.wait_for("all", 1)
        before = gateway.resident_bytes("ingress")
        chunk = b"%x\r\n" % MIB + bytes(MIB) + b"\r\n"
        kinds = {
            "by length": TRUSTED + b"content-length: %d\r\n\r\n" % (16 * MIB) + bytes(16 * MIB),
            "chunked": TRUSTED + b"transfer-encoding: chunked\r\n\r\n" + chunk * 16 + b"0\r\n\r\n",
            "one over": TRUSTED + b"content-length: %d\r\n\r\n" % (LIMIT + 1) + bytes(LIMIT + 1),
            "gzip": TRUSTED + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % MIB + bytes(MIB),
        }
        for kind, request in kinds.items():
            with ThreadPoolExecutor(4) as senders:
                answers = [senders.submit(said, gateway.port, request) for _ in range(4)]
            assert (kind, [statuses(answer.result())[0] for answer in answers]) == (kind, [413] * 4)
        # 130 MB came in. What the process has grown by is no body of theirs.
        assert gateway.resident_bytes("ingress") - before < 24 * MIB
        # A length that lies: too long a one is a request that never ends, too short a one is two requests.
        assert said(gateway.port, TRUSTED + b"content-length: 1000\r\n\r\nshort") == b""
        lying = TRUSTED + b"content-length: 2\r\n\r\n" + body()
        assert statuses(said(gateway.port, lying))[-1] == 400
        # Within the limit, what claims to be gzip is kept as it came and never decoded.
        bomb = gzip.compress(bytes(64 * MIB))
        kept = gateway.request(
            "POST",
            "/webhooks/trustshare",
            bomb,
            {"x-trustshare-secret": TRUSTSHARE_SECRET, "content-encoding": "gzip"},
        )
        assert kept.status == 200
        wait_for(lambda: gateway.redis.hget(f"hr:quarantined:{kept.id}", "body") == bomb, "the quarantine")
        assert gateway.resident_bytes("ingress") - before < 24 * MIB


@pytest.mark.case(n=30)
def test_a_request_that_can_be_read_in_two_ways_is_refused(folder: Path, sink: Sink) -> None:
    event = body()
    length = b"content-length: %d\r\n" % len(event)
    chunked = b"transfer-encoding: chunked\r\n"
    in_chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(event), event)
    secret = TRUSTED.removeprefix(HEAD)
    basic = b"POST /webhooks/trustap HTTP/1.1\r\nhost: x\r\n" + b"authorization: %s\r\n" % BASIC.encode()
    requests = {
        "CL and TE": (400, TRUSTED + length + chunked + b"\r\n" + in_chunks),
        "TE and CL": (400, TRUSTED + chunked + length + b"\r\n" + in_chunks),
        "two lengths": (400, TRUSTED + length + b"content-length: 1\r\n\r\n" + event),
        "TE of another kind": (400, TRUSTED + b"transfer-encoding: chunked, identity\r\n\r\n" + in_chunks),
        "a header of 100 KB": (
            431,
            TRUSTED + b"x-large: " + b"x" * 100_000 + b"\r\n" + length + b"\r\n" + event,
        ),
        "the secret twice": (400, TRUSTED + secret + length + b"\r\n" + event),
        "a wrong secret too": (400, TRUSTED + b"x-trustshare-secret: no\r\n" + length + b"\r\n" + event),
        "Basic twice": (400, basic + b"authorization: Basic eDp5\r\n" + length + b"\r\n" + event),
        "a folded header": (400, TRUSTED + b"x-a: b\r\n c\r\n" + length + b"\r\n" + event),
        "a space before the colon": (400, TRUSTED + b"content-length : 1\r\n\r\n" + event),
        "NUL in a header": (400, TRUSTED + b"x-a: b\0c\r\n" + length + b"\r\n" + event),
    }
    with Watched(folder, target("all", sink.port), sink) as gateway:
        for name, (status, request) in requests.items():
            assert (name, statuses(said(gateway.port, request))[:1]) == (name, [status])
        assert gateway.redis.keys("hr:inbox:*") == []
        assert gateway.post("trustshare", event).status == 200


def encoded(text: bytes) -> str:
    return "Basic " + base64.b64encode(text).decode()


CREDENTIALS = {
    "none": {},
    "an empty value": {"authorization": ""},
    "a scheme alone": {"authorization": "Basic"},
    "another scheme": {"authorization": "Bearer " + "x" * 40},
    "base64 that is none": {"authorization": "Basic !!!!"},
    "base64 cut short": {"authorization": BASIC[:-3]},
    "no colon": {"authorization": encoded(b"headrace")},
    "no ASCII": {"authorization": encoded("héadrace:pässword\udcff".encode("utf-8", "surrogateescape"))},
    "raw bytes": {"authorization": "Basic \xff\xfe\xe9"},
    "NUL": {"authorization": encoded(b"headrace\0:" + TRUSTAP_PASSWORD.encode())},
    "a prefix": {"authorization": encoded(b"headrace:" + TRUSTAP_PASSWORD[:-1].encode())},
    "at the limit": {"authorization": "Basic " + "A" * 15_000},
    "the user twice": {"authorization": encoded(b"headrace:headrace:" + TRUSTAP_PASSWORD.encode())},
}


@pytest.mark.case(n=31)
def test_odd_credentials_are_401_in_bounded_time_and_never_500(folder: Path, sink: Sink) -> None:
    with Watched(folder, target("all", sink.port), sink) as gateway:

        def ask(path: str, headers: dict[str, str]) -> tuple[Answer, float]:
            started = time.monotonic()
            answer = gateway.request("POST", path, body(), headers)
            return answer, time.monotonic() - started

        for name, headers in CREDENTIALS.items():
            answer, took_s = ask("/webhooks/trustap", headers)
            assert (name, answer.status) == (name, 401)
            assert json.loads(answer.body) == {"error": "unauthorized"}
            assert took_s < 9, "no provider waits so long"
        for secret in ("", "\xff\xfe", TRUSTSHARE_SECRET + " x", TRUSTSHARE_SECRET.upper(), "A" * 15_000):
            assert ask("/webhooks/trustshare", {"x-trustshare-secret": secret})[0].status == 401
        for path in ("/webhooks/truust/%ff%fe", "/webhooks/truust/%00", "/webhooks/truust/" + "x" * 10_000):
            assert ask(path, {})[0].status == 404
        assert ask("/webhooks/trustap", {"authorization": "Basic " + "A" * 17_000})[0].status == 431
        assert not [line for line in gateway.lines("request") if line["status"] not in (401, 404)]
        assert gateway.redis.keys("hr:inbox:*") == []


@pytest.mark.case(n=32)
def test_bodies_of_every_wrong_kind_are_kept_and_the_worker_lives(folder: Path, sink: Sink) -> None:
    """What stands in quarantine is held against the bytes in tests/acceptance/test_bad_input.py."""
    twice = b'{"type":"handshake","type":"dispute_raised","token":"t","from":"a","to":"b"}'
    bodies = [
        *(b"", b" ", b"\0", b"null", b"0", b'""', b"[]", b"{}", b"{", b"\xff", b"{'type': 1}"),
        *(b"[" * 100_000, b'{"a":' * 50_000, b"[" * 100_000 + b"]" * 100_000),
        *(b'{"type":"dispute_raised","token":NaN}', b'{"type":"payment_received","amount":1e999}'),
        b'{"type":"payment_received","token":"a","amount":' + b"9" * 100_000 + b"}",
        *(b'{"type":"\\ud800"}', b'{"type":"dispute_raised","token":"\\udfff\\ud800"}'),
        *('{"type":"dispute_raised"}'.encode(name) for name in ("utf-16", "utf-16-le", "utf-32")),
        b'\xef\xbb\xbf{"type":"dispute_raised","token":"t"}',
        twice,
    ]
    with Watched(folder, target("all", sink.port), sink) as gateway:
        workers = gateway.children("workers")
        for provider in REQUESTS:
            for each in bodies:
                assert (each[:60], gateway.post(provider, each).status) == (each[:60], 200)
        gateway.post("trustshare", body())
        gateway.drain()
        assert gateway.children("workers") == workers, "the same that there was"
        assert gateway.lines("adapter failed") == []
        assert gateway.redis.zcard("hr:quarantine") > 40
