"""The limits of the real gateway: what is beyond one is refused politely, and nothing else is."""

import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

from tests.acceptance.gateway import SOURCES, TRUSTSHARE_SECRET, Answer, Gateway, target
from tests.acceptance.sink import Delivery, Sink
from tests.waiting import wait_for

HEAD = (
    b"POST /webhooks/trustshare HTTP/1.1\r\nhost: x\r\n"
    b"x-trustshare-secret: %b\r\ncontent-type: application/json\r\n" % TRUSTSHARE_SECRET.encode()
)
ONE_SOURCE = f'[[sources]]\nname = "trustshare"\nprovider = "trustshare"\nsecrets = ["{TRUSTSHARE_SECRET}"]\n'
ENOUGH = 3000


def body(**more: object) -> bytes:
    fields = {"type": "dispute_raised", "from": "a", "to": "b", "token": uuid4().hex, **more}
    return json.dumps(fields).encode()


def limited(folder: Path, targets: str, *lines: str, sources: str = SOURCES) -> Gateway:
    return Gateway(folder, targets, sources="".join(f"{line}\n" for line in lines) + sources)


@contextmanager
def no_worker(gateway: Gateway) -> Iterator[None]:
    """Have no worker at work; afterwards another starts in its place."""
    [worker] = gateway.children("workers")
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker, signal.SIGKILL)


def fill(gateway: Gateway, filler: str = "") -> tuple[list[str], Answer]:
    """POST until the inbox is full. Returns the receipts, and the first refusal."""
    receipts: list[str] = []
    deadline = time.monotonic() + 20
    for _ in range(ENOUGH):
        answer = gateway.post("trustshare", body(filler=filler), once=True)
        if answer.status != 200:
            return receipts, answer
        receipts.append(answer.id)
        assert time.monotonic() < deadline, "never refused"
        time.sleep(0.02)
    raise AssertionError("never refused")


def taken_in_the_end(gateway: Gateway) -> str:
    """POST until it is taken, once a worker has started or a file has been read. Returns the receipt."""
    answers: list[Answer] = []

    def taken() -> bool:
        answers.append(gateway.post("trustshare", body(), once=True))
        return answers[-1].status == 200

    wait_for(taken, "an event to be taken again", within_s=60)
    return answers[-1].id


def refused(gateway: Gateway) -> bool:
    return gateway.post("trustshare", body(), once=True).status == 503


def at_once(answer: Answer) -> bool:
    return answer.status == 503 and answer.headers["retry-after"] == "5"


def test_a_source_whose_inbox_is_full_is_refused_alone_and_nothing_is_lost(folder: Path, sink: Sink) -> None:
    with limited(folder, target("ledger", sink.port), "ingress.max_inbox_events = 20") as gateway:
        with no_worker(gateway):
            receipts, refusal = fill(gateway)
            assert at_once(refusal)
            waiting = gateway.redis.xlen("hr:inbox:trustshare")
            assert 20 < waiting == len(receipts)
            # One that is full makes no other wait, nor this process unready.
            others = [gateway.post("trustap", body(), once=True) for _ in range(5)]
            assert {answer.status for answer in others} == {200}
            ready = gateway.request("GET", "/readyz")
            assert (ready.status, json.loads(ready.body)) == (200, {"status": "ready", "full_inboxes": 1})
            for _ in range(15):  # over several looks of ingress
                assert refused(gateway)
                time.sleep(0.2)
            assert gateway.redis.xlen("hr:inbox:trustshare") == waiting
            [line] = gateway.lines("refusing a source")
            assert line["source"] == "trustshare"
            # What was on its way at that look was taken still.
            assert 20 < int(re.findall(r"([\d,]+) events", line["reason"])[0].replace(",", "")) <= waiting
        receipts.append(taken_in_the_end(gateway))
        wait_for(lambda: {*receipts} <= sink.counts("ledger").keys(), "all that was taken to be delivered")
        assert json.loads(gateway.request("GET", "/readyz").body) == {"status": "ready"}
        wait_for(lambda: len(gateway.lines("accepting a source")) == 1, "it to be logged")
        assert gateway.redis.xlen("hr:inbox:trustshare") == 0


def test_where_no_source_has_room_it_is_not_ready_until_the_limit_is_raised(folder: Path, sink: Sink) -> None:
    limits = ("ingress.max_body_bytes = 2000", "ingress.max_inbox_bytes = 30000")
    with limited(folder, target("ledger", sink.port), *limits, sources=ONE_SOURCE) as gateway:
        with no_worker(gateway):
            receipts, refusal = fill(gateway, filler="x" * 1000)
            assert at_once(refusal)
            # The sum of the bodies is near the memory that they take, and a second's requests come on top.
            assert 10 < len(receipts) < 200
            ready = gateway.request("GET", "/readyz")
            assert ready.status == 503
            assert json.loads(ready.body)["reason"] == "inboxes-full"
            gateway.config.write_text(gateway.config.read_text().replace("= 30000", "= 30000000"))
            receipts.append(taken_in_the_end(gateway))  # and still no worker
            assert gateway.ready()
        wait_for(lambda: {*receipts} <= sink.counts("ledger").keys(), "all that was taken to be delivered")


def test_requests_beyond_those_being_committed_are_refused_and_health_is_not(
    folder: Path, sink: Sink
) -> None:
    with limited(folder, target("ledger", sink.port), "ingress.max_requests_in_flight = 2") as gateway:
        gateway.redis.client_pause(800, all=False)  # a commit waits, and a look at Redis too
        with ThreadPoolExecutor(8) as senders:
            sent = [senders.submit(gateway.post, "trustshare", body(), once=True) for _ in range(8)]
            assert gateway.request("GET", "/livez").status == 200
            answers = [each.result() for each in sent]
        taken = [answer for answer in answers if answer.status == 200]
        assert len(taken) <= 2
        assert all(at_once(answer) for answer in answers if answer not in taken)
        assert gateway.post("trustshare", body()).status == 200
        why = "unavailable: ingress.max_requests_in_flight are being committed"
        wait_for(lambda: why in {line["outcome"] for line in gateway.lines("request")}, "it to be logged")
        sink.wait_for("ledger", len(taken) + 1)


def test_connections_that_wait_make_room_for_new_ones(folder: Path, sink: Sink) -> None:
    with (
        limited(folder, target("ledger", sink.port), "ingress.max_connections = 4") as gateway,
        ExitStack() as open_,
    ):

        def connect() -> socket.socket:
            address = ("127.0.0.1", gateway.port)
            return open_.enter_context(socket.create_connection(address, timeout=10))

        idle = [connect() for _ in range(4)]
        assert gateway.post("trustshare", body(), once=True).status == 200
        assert idle[0].recv(1) == b"", "the longest idle one made room"
        half_open = [connect() for _ in range(4)]
        for connection in half_open:
            connection.sendall(HEAD)
        assert gateway.post("trustshare", body(), once=True).status == 200
        assert half_open[0].recv(1) == b"", "so did the one that waited longest for the rest of its head"
        wait_for(lambda: gateway.lines("turned away"), "the log to say so")


def test_json_beyond_the_limits_is_quarantined_and_admitted_once_they_are_raised(
    folder: Path, sink: Sink
) -> None:
    limits = ("admission.max_json_depth = 4", "admission.max_json_bytes = 2000")
    with limited(folder, target("ledger", sink.port), *limits) as gateway:
        deep = gateway.post("trustshare", body(x=[[[[]]]])).id
        large = gateway.post("trustshare", body(x="x" * 2000)).id
        within = gateway.post("trustshare", body(x=[[[]]])).id
        wait_for(lambda: gateway.redis.zcard("hr:quarantine") == 2, "two to be quarantined")
        held = {each["id"]: each for each in gateway.json("quarantine")["quarantined"]}
        assert {id: each["code"] for id, each in held.items()} == {deep: "too-deep", large: "too-large"}
        assert "admission.max_json_depth is 4" in held[deep]["detail"]
        assert "admission.max_json_bytes is 2000" in held[large]["detail"]
        assert gateway.command("admit", "--all", "--yes").returncode == 0
        assert gateway.redis.zcard("hr:quarantine") == 2, "nothing has changed yet"
        raised = gateway.config.read_text().replace("max_json_depth = 4", "max_json_depth = 5")
        gateway.config.write_text(raised.replace("max_json_bytes = 2000", "max_json_bytes = 3000"))
        assert gateway.command("admit", "--all", "--yes").returncode == 0
        sink.wait_for("ledger", 3)
        assert sink.counts("ledger") == {deep: 1, large: 1, within: 1}
        # The workers have taken up the limits by themselves.
        wait_for(lambda: len(gateway.lines("configuration reloaded")) == 2, "ingress and worker to reload")
        last = gateway.post("trustshare", body(x=[[[[]]]])).id
        wait_for(lambda: last in sink.counts("ledger"), "it to be delivered without a hand")


def test_of_an_answer_and_of_an_error_as_much_is_kept_as_is_configured(folder: Path, sink: Sink) -> None:
    def hang_up(delivery: Delivery, before: int) -> int:
        raise ConnectionError

    sink.answers["gone"] = hang_up
    limits = ("retention.max_answer_bytes = 3", "retention.max_error_bytes = 64")
    targets = target("ledger", sink.port) + target("gone", sink.port, retry="{ attempts = 1 }")
    with limited(folder, targets, *limits) as gateway:
        event = gateway.post("trustshare", body()).id
        wait_for(lambda: gateway.redis.zcard("hr:dead:gone") == 1, "the delivery to fail for good")
        wait_for(lambda: len(gateway.redis.hvals(f"hr:attempts:{event}")) == 2, "both to be recorded")
        attempts = [json.loads(text) for text in gateway.redis.hvals(f"hr:attempts:{event}")]
        assert sorted(attempt.get("answer", "") for attempt in attempts) == ["", "see"]
        whole = "protocol: the connection was closed by the target before an answer came"
        assert sorted(attempt.get("error", "") for attempt in attempts) == ["", whole[:64]]
        assert gateway.redis.hget("hr:target:gone", "last_error") == whole[:64].encode()
