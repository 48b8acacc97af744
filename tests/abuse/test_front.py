"""Cases 41, 42, 45, 46 and 55: what a stranger with a socket can ask of the front door, and what it learns."""

import contextlib
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.abuse.wire import HEAD, TRUSTED, said, statuses
from tests.acceptance.gateway import BASIC, REQUESTS, SOURCES, TRUUST_TOKEN, target
from tests.acceptance.sink import Sink
from tests.faults.invariants import Receipt
from tests.faults.watched import Watched, body
from tests.waiting import wait_for

UPGRADES = {
    "h2c": b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
    "websocket": b"connection: upgrade\r\nupgrade: websocket\r\n",
    "h2c, then closed": b"connection: Upgrade, close\r\nupgrade: h2c\r\n",
}
ENDLESS_TIMES = 4000


def receipts_in(answer: bytes) -> list[str]:
    return [json.loads(part.partition(b"\r\n\r\n")[2])["id"] for part in answer.split(b"HTTP/1.1 200 OK")[1:]]


@pytest.mark.case(n=41)
@pytest.mark.parametrize("upgrade", UPGRADES)
def test_the_body_of_a_request_that_asks_for_an_upgrade_is_kept_whole(
    upgrade: str, folder: Path, sink: Sink
) -> None:
    head = TRUSTED + UPGRADES[upgrade]
    bodies = [body(), body(), body()]
    with Watched(folder, target("all", sink.port), sink) as gateway:
        by_length = head + b"content-length: %d\r\n\r\n" % len(bodies[0]) + bodies[0]
        in_chunks = head + b"transfer-encoding: chunked\r\n\r\n"
        in_chunks += b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (
            10,
            bodies[1][:10],
            len(bodies[1]) - 10,
            bodies[1][10:],
        )
        follows = TRUSTED + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(bodies[2]) + bodies[2]
        for request, sent in ((by_length, bodies[0]), (in_chunks, bodies[1])):
            answer = said(gateway.port, request + follows, timeout_s=10)
            expected = [sent] if b"close" in UPGRADES[upgrade] else [sent, bodies[2]]
            ids = receipts_in(answer)
            assert len(ids) == len(expected), "and what follows on the connection is answered"
            gateway.receipts += [
                Receipt(id, "trustshare", each) for id, each in zip(ids, expected, strict=True)
            ]
        gateway.bodies_recur = True
        assert said(gateway.port, head + b"\r\n", timeout_s=10).startswith(b"HTTP/1.1 200"), (
            "without a body too"
        )


@pytest.mark.case(n=41)
def test_there_is_no_receipt_for_fewer_bytes_than_were_announced(folder: Path, sink: Sink) -> None:
    with Watched(folder, target("all", sink.port), sink) as gateway:
        for more in (b"", *UPGRADES.values()):
            assert said(gateway.port, TRUSTED + more + b"content-length: 1000\r\n\r\nshort") == b""
        connect = b"CONNECT /webhooks/trustshare HTTP/1.1\r\nhost: x\r\n\r\n"
        assert statuses(said(gateway.port, connect)) == [400]
        assert gateway.redis.keys("hr:inbox:*") == []
        gateway.post("trustshare", body())


@pytest.mark.case(n=42)
def test_trailers_without_end_are_refused_and_cost_no_memory(folder: Path, sink: Sink) -> None:
    chunked = b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    floods = {
        "lines": (TRUSTED + chunked, b"x-trailer: " + b"x" * 1000 + b"\r\n"),
        "one line": (TRUSTED + chunked + b"x: ", b"y" * 1000),
        "small lines": (TRUSTED + chunked, b"a:b\r\n" * 200),
        "at health": (
            b"POST /livez HTTP/1.1\r\nhost: x\r\n" + chunked,
            b"x-trailer: " + b"x" * 1000 + b"\r\n",
        ),
        "a chunk's extension": (
            TRUSTED + b"transfer-encoding: chunked\r\n\r\n1;",
            b"x" * 1000,
        ),
        "extensions of small chunks": (
            TRUSTED + b"transfer-encoding: chunked\r\n\r\n",
            b"1;" + b"x" * 1000 + b"\r\nx\r\n",
        ),
    }
    with Watched(folder, target("all", sink.port), sink) as gateway:
        gateway.post("trustshare", body())
        sink.wait_for("all", 1)
        before = gateway.resident_bytes("ingress")
        for name, (head, line) in floods.items():
            with contextlib.closing(
                socket.create_connection(("127.0.0.1", gateway.port), timeout=20)
            ) as flood:
                flood.sendall(head)
                sent = 0
                with contextlib.suppress(ConnectionError):
                    while sent < ENDLESS_TIMES:
                        flood.sendall(line)
                        sent += 1
                assert sent < ENDLESS_TIMES, f"{name}: 4 MB were taken"
            assert gateway.post("trustshare", body()).status == 200
        assert gateway.resident_bytes("ingress") - before < 16 * 1024 * 1024


@pytest.mark.case(n=42)
def test_what_is_sent_as_a_trailer_is_never_a_credential(folder: Path, sink: Sink) -> None:
    event = body()
    chunks = b"%x\r\n%b\r\n0\r\n" % (len(event), event)
    secret = TRUSTED.removeprefix(HEAD)
    basic = b"POST /webhooks/trustap HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
    requests = [
        HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunks + secret + b"\r\n",
        basic + b"\r\n" + chunks + b"authorization: %b\r\n\r\n" % BASIC.encode(),
    ]
    with Watched(folder, target("all", sink.port), sink) as gateway:
        for request in requests:
            # Nor is it one of the next request on the connection.
            answer = said(gateway.port, request + HEAD + b"content-length: %d\r\n\r\n" % len(event) + event)
            assert {*statuses(answer)} == {401}
        assert gateway.redis.keys("hr:inbox:*") == []
        trusted = TRUSTED + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"x-checksum: 1\r\n\r\n"
        [id] = receipts_in(said(gateway.port, trusted))
        gateway.receipts.append(Receipt(id, "trustshare", event))


def watch(redis: Redis, looks: list[str]) -> None:
    """Collect ingress's looks at Redis."""
    monitor: Any = redis.monitor()  # type: ignore[no-untyped-call]
    with monitor:
        for command in monitor.listen():
            if "hr:ready" in command["command"]:
                looks.append(command["command"])
            elif "the-end" in command["command"]:
                return


@pytest.mark.case(n=45)
def test_however_many_ask_for_health_no_provider_is_turned_away(folder: Path, sink: Sink) -> None:
    stop = threading.Event()
    answers: list[bytes] = []

    def ask(port: int) -> None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=20) as asking,
        ):
            while not stop.is_set():
                asking.sendall(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")
                answers.append(asking.recv(4096))
                stop.wait(0.25)  # the subject is what they share with commits, not the processor

    with Watched(folder, target("all", sink.port), sink) as gateway:
        looks: list[str] = []
        watching = threading.Thread(target=watch, args=(gateway.redis, looks), daemon=True)
        watching.start()
        started = time.monotonic()
        askers = [threading.Thread(target=ask, args=(gateway.port,)) for _ in range(400)]
        for asker in askers:
            asker.start()
        posted = [gateway.post("trustshare", body(), timeout_s=30, once=True).status for _ in range(40)]
        wait_for(lambda: looks, "a look at Redis", within_s=30)
        stop.set()
        for asker in askers:
            asker.join(30)
        took_s = time.monotonic() - started
        gateway.redis.set("the-end", 1)
        watching.join(30)
        assert posted == [200] * 40
        assert len(answers) > 400
        assert {answer[:12] for answer in answers} == {b"HTTP/1.1 200"}
        assert 0 < len(looks) <= took_s + 2, "one a second, however many ask"


@pytest.mark.case(n=45)
def test_a_stranger_is_told_one_word_of_what_is_wrong(folder: Path, sink: Sink) -> None:
    with Watched(folder, target("all", sink.port), sink) as gateway:
        maxmemory: Any = gateway.redis.config_get("maxmemory")
        gateway.redis.config_set("maxmemory", 1_000_000)
        wait_for(lambda: not gateway.ready(), "it to have looked", within_s=30)
        answer = json.loads(gateway.request("GET", "/readyz").body)
        gateway.redis.config_set("maxmemory", maxmemory["maxmemory"])
        assert answer == {"status": "not ready", "reason": "redis-full"}
        wait_for(gateway.ready, "it to be ready", within_s=30)
        wait_for(lambda: len(gateway.lines("accepting")) > 1, "the log to be whole")
        [line] = gateway.lines("refusing")
        assert "maxmemory" in line["reason"], "who operates it is told all"


@pytest.mark.case(n=45)
def test_too_few_replicas_refuse_all_and_that_is_said_with_their_number(folder: Path, sink: Sink) -> None:
    sources = "redis.wait_replicas = 1\n" + SOURCES
    gateway = Watched(folder, target("all", sink.port), sink, sources=sources)
    gateway.ready = lambda: bool(gateway.lines("refusing"))  # type: ignore[method-assign]
    with gateway:
        for _ in range(5):
            assert gateway.post("trustshare", body(), once=True).status == 503
        answer = gateway.request("GET", "/readyz")
        assert json.loads(answer.body) == {"status": "not ready", "reason": "redis-unfit"}
        assert [line["reason"] for line in gateway.lines("refusing")] == [
            "too few replicas: 0 of 1 confirmed a write in time"
        ]
        assert gateway.lines("accepting") == []
        wait_for(lambda: [line["level"] for line in gateway.lines("request")] == ["warning"] * 5, "its lines")


# Each stage at which a request may wait: nothing, half a head, and bodies of all kinds, without and with credentials.
DRIBBLES = [
    b"",
    b"POST /webh",
    HEAD + b"x-half: ",
    b"POST /webhooks/nosuch HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",
    HEAD + b"content-length: 100\r\n\r\n{",
    HEAD + b"x-trustshare-secret: wrong\r\ncontent-length: 100\r\n\r\n{",
]
SOCKETS = 5000


@pytest.mark.case(n=46)
def test_while_5000_sockets_dribble_every_authentic_request_is_taken(folder: Path, sink: Sink) -> None:
    stop = threading.Event()
    connected = 0

    def dribble(address: str) -> None:
        """Keep so many connections open, each with a byte now and then, and replace those that are closed."""
        nonlocal connected
        sockets: list[socket.socket] = []
        number = 0
        while not stop.is_set():
            while len(sockets) < SOCKETS // 5 and not stop.is_set():
                number += 1
                with contextlib.suppress(OSError):
                    connection = socket.create_connection(
                        ("127.0.0.1", gateway.port), timeout=10, source_address=(address, 0)
                    )
                    connection.sendall(DRIBBLES[number % len(DRIBBLES)])
                    connection.setblocking(False)
                    sockets.append(connection)
                    connected += 1
            alive = []
            for connection in sockets:
                try:
                    connection.send(b"x")
                    alive.append(connection)
                except OSError:
                    connection.close()
            sockets = alive
            stop.wait(1)
        for connection in sockets:
            connection.close()

    providers = list(REQUESTS)
    with Watched(folder, target("all", sink.port), sink) as gateway:
        gateway.bodies_recur = True
        dribblers = [threading.Thread(target=dribble, args=(f"127.0.0.{2 + number}",)) for number in range(5)]
        for dribbler in dribblers:
            dribbler.start()
        try:
            wait_for(lambda: connected > SOCKETS, "5,000 to have been opened", within_s=90)
            posted = [
                gateway.post(providers[number % 4], body(), timeout_s=60, once=True).status
                for number in range(60)
            ]
        finally:
            stop.set()
            for dribbler in dribblers:
                dribbler.join()
        assert posted == [200] * 60
        assert "Traceback" not in gateway.log.read_text(errors="replace")


@pytest.mark.case(n=46)
def test_what_the_head_alone_refuses_is_answered_before_a_body_comes(folder: Path, sink: Sink) -> None:
    announced = b"host: x\r\ncontent-length: 100\r\n"
    handshake = b'{"type":"handshake"}'
    heads = {
        (404, b"POST /webhooks/nosuch HTTP/1.1\r\n"),
        (404, b"POST /webhooks/truust/wrong HTTP/1.1\r\n"),
        (404, b"POST /webhooks/trustist HTTP/1.1\r\n"),
        (401, b"POST /webhooks/trustshare HTTP/1.1\r\nx-trustshare-secret: wrong\r\n"),
        (401, b"POST /webhooks/trustap HTTP/1.1\r\nauthorization: Basic eDp5\r\n"),
        (405, b"PUT /webhooks/trustshare HTTP/1.1\r\n"),
    }
    with Watched(folder, target("all", sink.port), sink) as gateway:
        for status, head in heads:
            answer = said(gateway.port, head + b"expect: 100-continue\r\n" + announced + b"\r\n", ends=False)
            assert statuses(answer) == [status], head
            with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
                connection.sendall(head + announced + b"\r\n")
                assert statuses(connection.recv(4096)) == [status], head
        long = HEAD + b"content-length: 5000\r\n\r\n"
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
            connection.sendall(long)
            assert statuses(connection.recv(4096)) == [401], "a body of that size is no handshake"
        assert gateway.request("POST", "/webhooks/trustshare", handshake).body == b"{}"
        gateway.post("trustshare", body())


@pytest.mark.case(n=55)
def test_an_unknown_source_and_a_wrong_token_cannot_be_told_apart(folder: Path, sink: Sink) -> None:
    def outcomes(gateway: Watched, path: str) -> list[bytes]:
        found = []
        for method in ("POST", "PUT", "GET"):
            for more in (b"", b"expect: 100-continue\r\n", b"authorization: x\r\nauthorization: y\r\n"):
                for length in (2, 10_000_000):
                    request = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n".encode()
                    found.append(said(gateway.port, request + more + b"\r\n", timeout_s=0.3, ends=False))
        return found

    sources = SOURCES.replace('name = "trustist"', 'name = "trustist"\nallow_ips = ["203.0.113.0/24"]')
    with Watched(folder, target("all", sink.port), sink, sources=sources) as gateway:
        unknown = outcomes(gateway, "/webhooks/nosuch/token")
        assert {*map(bytes, unknown)} != {b""}
        assert outcomes(gateway, "/webhooks/truust/token") == unknown
        assert outcomes(gateway, "/webhooks/trustist/token") == unknown
        assert outcomes(gateway, "/webhooks/truust") == outcomes(gateway, "/webhooks/nosuch")
        assert gateway.request("POST", f"/webhooks/truust/{TRUUST_TOKEN}", body()).status == 200


@pytest.mark.case(n=55)
def test_odd_requests_have_one_answer_each_and_write_no_traceback(folder: Path, sink: Sink) -> None:
    event = body()
    length = b"content-length: %d\r\n\r\n" % len(event) + event
    secret = TRUSTED.removeprefix(HEAD)
    odd = {
        "no host": b"POST /webhooks/trustshare HTTP/1.1\r\n" + secret + length,
        "two hosts": TRUSTED + b"host: y\r\n" + length,
        "TE under 1.0": b"POST /webhooks/trustshare HTTP/1.0\r\n"
        + secret
        + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "gzip, chunked": TRUSTED + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "TE twice": TRUSTED + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/2.0": b"POST /webhooks/trustshare HTTP/2.0\r\nhost: x\r\n" + secret + length,
        "another alphabet": "POST /webhooks/é HTTP/1.1\r\nhost: x\r\n".encode() + length,
        "no target": b"POST : HTTP/1.1\r\nhost: x\r\n" + length,
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00",
    }
    with Watched(folder, target("all", sink.port), sink) as gateway:
        with ThreadPoolExecutor(8) as senders:
            for _ in range(20):
                for name, answer in zip(
                    odd, senders.map(lambda data: said(gateway.port, data), odd.values()), strict=True
                ):
                    assert (name, statuses(answer)) == (name, [400])
        assert gateway.redis.keys("hr:inbox:*") == []
        for beginning in (b"POST", TRUSTED, TRUSTED + b"content-length: 100\r\n\r\n{"):
            said(gateway.port, beginning)  # and it is gone
        gateway.post("trustshare", event)
        wait_for(
            lambda: sum(line.get("bad_requests", 0) for line in gateway.lines("turned away")) == 180,
            "the count",
        )
        text = gateway.log.read_text(errors="replace")
        assert "Traceback" not in text
        assert "exception" not in text
        assert len(gateway.lines("turned away")) < 60, "counted, not a line each"
