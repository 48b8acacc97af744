"""Bad input gets a clear answer that gives nothing away, and loses nothing."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.acceptance.gateway import (
    HEADRACE,
    SOURCES,
    TRUSTSHARE_SECRET,
    TRUUST_TOKEN,
    Answer,
    Gateway,
    clean_env,
    target,
)
from tests.acceptance.sink import Sink
from tests.faults.watched import Watched
from tests.waiting import wait_for

SHARE = {"x-trustshare-secret": TRUSTSHARE_SECRET}


@pytest.fixture
def gateway(folder: Path, sink: Sink) -> Gateway:
    return Gateway(folder, target("all", sink.port))


def raw(port: int, data: bytes) -> bytes:
    """Send bytes, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        chunks = []
        while chunk := connection.recv(65536):
            chunks.append(chunk)
    return b"".join(chunks)


@pytest.mark.case(n=29)
def test_each_mistake_has_its_status_and_one_line_of_json(gateway: Gateway) -> None:
    big = b"[" + b"1," * 200_000 + b"1]"
    cases: list[tuple[int, str, str, bytes, dict[str, str]]] = [
        (404, "POST", "/webhooks/nobody", b"{}", {}),
        (404, "POST", "/webhooks/nobody/token", b"{}", {}),
        (404, "POST", "/webhooks/truust/wrong-token", b"{}", {}),
        (404, "POST", "/webhooks/truust", b"{}", {}),
        (404, "POST", "/webhooks/truust/%ff%00", b"{}", {}),
        (404, "POST", "/", b"{}", {}),
        (404, "POST", "/webhooks/trustshare/", b"{}", SHARE),
        (401, "POST", "/webhooks/trustshare", b"{}", {}),
        (401, "POST", "/webhooks/trustshare", b"{}", {"x-trustshare-secret": "wrong"}),
        (401, "POST", "/webhooks/trustap", b"{}", {"authorization": "Basic !!!"}),
        (401, "POST", "/webhooks/trustap", b"{}", {"authorization": "Bearer x"}),
        (413, "POST", "/webhooks/trustshare", big, SHARE),
        (405, "GET", "/webhooks/trustshare", b"", SHARE),
        (405, "PUT", f"/webhooks/truust/{TRUUST_TOKEN}", b"{}", {}),
        (405, "POST", "/livez", b"", {}),
        (431, "POST", "/webhooks/trustshare", b"{}", SHARE | {"x-large": "x" * 20_000}),
        (431, "POST", "/webhooks/trustshare", b"{}", SHARE | {f"x-{i}": "x" for i in range(120)}),
    ]
    with gateway:
        for status, method, path, body, headers in cases:
            answer = gateway.request(method, path, body, headers)
            assert (method, path, answer.status) == (method, path, status)
            assert set(json.loads(answer.body)) == {"error"}
            assert b"\n" not in answer.body
        wrong_token = gateway.request("POST", "/webhooks/truust/wrong", b"{}")
        assert wrong_token.body == gateway.request("POST", "/webhooks/nobody/wrong", b"{}").body
        with gateway.redis as redis:
            assert redis.keys("hr:inbox:*") == redis.keys("hr:event:*") == []
        # Chunked, so no length announces it; and a length that lies about a body cut off.
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        head = b"POST /webhooks/trustshare HTTP/1.1\r\nhost: x\r\nx-trustshare-secret: %s\r\n" % (
            TRUSTSHARE_SECRET.encode()
        )
        assert b" 413 " in raw(gateway.port, head + b"transfer-encoding: chunked\r\n\r\n" + chunk * 8)[:30]
        assert raw(gateway.port, head + b"content-length: 1000\r\n\r\nshort") == b""
        both = head + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n"
        assert b" 400 " in raw(gateway.port, both)[:30]
        assert gateway.post("trustshare", b'{"type":"handshake"}').status == 200


@pytest.mark.case(n=32)
def test_what_an_authenticated_provider_sends_is_kept_whatever_it_is(folder: Path, sink: Sink) -> None:
    deep = b"[" * 100_000
    bodies = {
        "empty": b"",
        "not JSON": b"hello",
        "deep": deep,
        "deep and closed": deep + b"]" * 100_000,
        "NaN": b'{"type":NaN}',
        "UTF-16": '{"type":"handshake"}'.encode("utf-16"),
        "BOM": b'\xef\xbb\xbf{"type":"dispute_raised"}',
        "lone surrogate": b'{"type":"\\ud800"}',
        "not an object": b"[1, 2]",
        "long number": b'{"type":"payment_received","token":"a","paymentToken":"b","amount":'
        + b"9" * 100_000
        + b"}",
        "JSON in JSON": b'"{}"',
    }
    unknown = b'{"type":"transaction_teleported","token":"t"}'
    with Watched(folder, target("all", sink.port), sink) as gateway:
        for name, body in bodies.items():
            assert (name, gateway.post("trustshare", body).status) == (name, 200)
        receipt = gateway.post("trustshare", unknown).id
        [delivery] = sink.wait_for("all", 1)
        assert (delivery.id, delivery.event["type"]) == (receipt, "provider.unknown")
        assert delivery.event["data"]["provider_event"] == "transaction_teleported"
        assert unknown in delivery.body
        with gateway.redis as redis:
            wait_for(lambda: redis.zcard("hr:quarantine") == len(bodies), "every body to be in quarantine")
            kept = {
                redis.hget(f"hr:quarantined:{id.decode()}", "body")
                for id in redis.zrange("hr:quarantine", 0, -1)
            }
            assert kept == set(bodies.values())
        listing = gateway.json("quarantine")["quarantined"]
        [warning] = [text for text in gateway.json("check")["warnings"] if "provider.unknown" in text]
        assert "trustshare has sent 1 event " in warning, "and counted"
        assert {row["code"] for row in listing} >= {"empty", "not-json", "too-deep"}
        assert len(gateway.children("workers")) == 1
    assert not gateway.lines("child died, starting it again"), "no body kills a worker"


def test_a_handshake_without_its_secret_is_answered_and_stores_nothing(gateway: Gateway) -> None:
    with gateway:
        assert gateway.request("POST", "/webhooks/trustshare", b' { "type" : "handshake" } ').status == 200
        assert gateway.request("POST", "/webhooks/trustshare", b'{"type":"handshake","x":1}').status == 401
        with gateway.redis as redis:
            assert redis.keys("hr:inbox:*") == redis.keys("hr:event:*") == []


@pytest.mark.case(n=11)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["dead", "black hole"])
def test_redis_away_is_503_within_two_seconds_and_the_loop_stays_responsive(
    how: signal.Signals, folder: Path, sink: Sink
) -> None:
    body = b'{"type":"dispute_raised","from":"a","to":"b","token":"t"}'
    with Watched(folder, target("all", sink.port), sink) as gateway:
        # The supervisor would start it again within a second: it is stopped for as long as this looks.
        assert gateway.process is not None
        redis_pid = gateway.children("redis-server")[0]
        os.kill(gateway.process.pid, signal.SIGSTOP)
        os.kill(redis_pid, how)
        answers: list[tuple[Answer, float]] = []

        def post() -> None:
            started = time.monotonic()
            answer = gateway.post("trustshare", body, once=True)
            answers.append((answer, time.monotonic() - started))

        try:
            posts = [threading.Thread(target=post) for _ in range(5)]
            for thread in posts:
                thread.start()
            live = [gateway.request("GET", "/livez", timeout_s=1).status for _ in range(20)]
            for thread in posts:
                thread.join()
            ready = gateway.request("GET", "/readyz", timeout_s=5)
        finally:
            if how is signal.SIGSTOP:
                os.kill(redis_pid, signal.SIGCONT)
            os.kill(gateway.process.pid, signal.SIGCONT)
        assert live == [200] * 20
        assert [answer.status for answer, _ in answers] == [503] * 5
        assert all(answer.headers["retry-after"].isdecimal() for answer, _ in answers)
        # The promise of two seconds, not a measure of speed: each wait inside is bounded to one.
        assert max(took for _, took in answers) < 2
        assert ready.status == 503
        assert json.loads(ready.body) == {"status": "not ready", "reason": "redis-unreachable"}
        wait_for(gateway.ready, "the gateway to recover by itself", within_s=30)
        assert gateway.post("trustshare", body).status == 200
        sink.wait_for("all", 1, within_s=30)


MISTAKES = {
    "redis.urll": 'redis.urll = "redis://x"\n',
    "redis.url": 'redis.url = "http://x"\n',
    "sources[0].secrets": '[[sources]]\nname = "a"\nprovider = "trustshare"\nsecrets = [""]\n',
    "sources[0].passwords": '[[sources]]\nname = "a"\nprovider = "trustap"\nusername = "u"\n',
    "sources[0].provider": '[[sources]]\nname = "a"\nprovider = "paypal"\n',
    "sources[0].secrets[0]": '[[sources]]\nname = "a"\nprovider = "trustshare"\nsecrets = ["${NO_SUCH_VARIABLE}"]\n',
    "sources[0].path_tokens[0]": '[[sources]]\nname = "a"\nprovider = "truust"\npath_tokens = ["${file:nowhere}"]\n',
    "sources[4].name": SOURCES + '[[sources]]\nname = "trustap"\nprovider = "trustshare"\nsecrets = ["s"]\n',
    "targets[0].url": target("t", 1, url='"ftp://example.com"'),
    "targets[0].secret": target("t", 1, secret='"hunter2"'),
    "targets[0].filter": target("t", 1, filter='"data.money >"'),
    "targets[0].retry.attempts": target("t", 1, retry="{ attempts = 0 }"),
    "targets[0].retry.atempts": target("t", 1, retry="{ atempts = 3 }"),
    "targets[0].timeout": target("t", 1, timeout='"15"'),
    "targets[0].format": target("t", 1, format='"xml"'),
    "targets[1].name": target("t", 1) + target("t", 2),
    "targets[0].concurrency": target("t", 1, concurrency='"many"'),
    "dedupe.window": 'dedupe.window = "0s"\n',
    "ingress.max_header_bytes": "ingress.max_header_bytes = 100000\n",
    "admission.max_json_depth": "[admission]\nmax_json_depth = 0\n",
    "headrace.toml: ": "this is not TOML",
}


# All commands read the file in the same place: two mistakes show it for the others.
CASES = [("check", key) for key in MISTAKES] + [
    (command, key)
    for command in ("up", "ingress", "worker", "events")
    for key in ("redis.urll", "targets[0].secret")
]


@pytest.mark.case(n=36)
@pytest.mark.parametrize(("command", "key"), CASES)
def test_a_config_mistake_is_one_line_that_names_the_key(command: str, key: str, folder: Path) -> None:
    (folder / "headrace.toml").write_text(MISTAKES[key])
    done = subprocess.run(
        [HEADRACE, command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=20,
        env=clean_env(),
        check=False,
    )
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("headrace: ")
    assert key in line
    assert "hunter2" not in line, "a secret is never repeated"
    assert done.stdout == ""


@pytest.mark.case(n=36)
def test_a_target_that_is_this_gateway_itself_is_refused(folder: Path) -> None:
    (folder / "headrace.toml").write_text("ingress.port = 8123\n" + target("me", 8123))
    done = subprocess.run(
        [HEADRACE, "check"], cwd=folder, capture_output=True, text=True, check=False, env=clean_env()
    )
    assert (done.returncode, "targets[0].url" in done.stderr) == (2, True)
