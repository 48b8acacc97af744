"""Cases 15 and 16: copies all at once, and copies that come too late to be known as such."""

import asyncio
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.acceptance.gateway import HEADRACE, SOURCES, TRUSTSHARE_SECRET, free_port, target
from tests.acceptance.sink import Sink
from tests.faults.invariants import Receipt
from tests.faults.watched import Watched, body
from tests.packed import finished
from tests.waiting import wait_for

COPIES = 10_000
CONNECTIONS = 100


async def post_copies(ports: list[int], event: bytes) -> Counter[bytes]:
    """Send copies over many connections at once; return how often there was each status, and the receipts."""
    request = (
        b"POST /webhooks/trustshare HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"x-trustshare-secret: %s\r\ncontent-length: %d\r\n\r\n%s"
        % (TRUSTSHARE_SECRET.encode(), len(event), event)
    )
    answers: Counter[bytes] = Counter()

    async def sender(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(COPIES // CONNECTIONS):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            answers[head[9:12] + b" " + await reader.readexactly(length)] += 1
        writer.close()

    await asyncio.gather(*(sender(ports[number % len(ports)]) for number in range(CONNECTIONS)))
    return answers


@pytest.mark.case(n=15)
def test_10_000_copies_at_once_over_several_ingress_processes_are_one_event(folder: Path, sink: Sink) -> None:
    event, port = body(), free_port()
    with Watched(folder, target("all", sink.port), sink, workers=2) as gateway:
        argv = [HEADRACE, "ingress", "--config", str(gateway.config), "--port", str(port), "--processes", "2"]
        with open(gateway.log, "ab") as log:
            second = subprocess.Popen(argv, stdout=log, stderr=log, env=gateway.env())
        try:
            wait_for(lambda: gateway.log.read_text().count('"event":"accepting"') >= 3, "three processes")
            answers = asyncio.run(post_copies([gateway.port, port], event))
        finally:
            second.terminate()
            second.wait(15)
        assert sum(answers.values()) == COPIES
        receipts = [answer.decode() for answer in answers if answer.startswith(b"200 ")]
        # A moment in which Redis is late is a 503, as it should be; what counts is what was answered 200.
        assert len(receipts) > COPIES // 2
        assert {answer[:3] for answer in answers} <= {b"200", b"503"}
        gateway.receipts += [Receipt(text.split('"')[3], "trustshare", event) for text in receipts]
        gateway.drain()

        def served() -> int:
            return Counter(line["status"] for line in gateway.lines("request"))[200]

        wait_for(lambda: served() >= len(receipts), "the log to be whole")
        assert served() == len(receipts)
        stored = gateway.redis.zcard("hr:duplicates") + 1
        assert stored >= len(receipts), "each a record of its own"
        assert len(finished(gateway.redis)) == 1
        assert len(sink.of("all")) == 1


@pytest.mark.case(n=16)
def test_a_duplicate_after_the_window_is_a_new_event(folder: Path, sink: Sink) -> None:
    sources = 'dedupe.window = "2s"\n' + SOURCES
    event = body()
    with Watched(folder, target("all", sink.port), sink, sources=sources) as gateway:
        gateway.bodies_recur = True
        first = gateway.post("trustshare", event).id
        copy = gateway.post("trustshare", event).id
        sink.wait_for("all", 1)
        wait_for(lambda: gateway.redis.zcard("hr:duplicates") == 1, "the copy within the window")
        wait_for(lambda: not gateway.redis.keys("hr:dedupe:*:*"), "the window to be over")
        late = gateway.post("trustshare", event).id
        sink.wait_for("all", 2)
        assert list(sink.counts("all")) == [first, late]
        assert copy not in sink.counts("all")
