"""Case 40: random and mutated requests at real sockets. A failure's seed is printed: FAULTS_SEED repeats it.

What adapters make of any bytes is tested by property in tests/unit/test_providers_properties.py.
"""

import os
import random
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h11
import pytest

from tests.abuse.wire import HASTY, said, statuses
from tests.acceptance.gateway import REQUESTS, SOURCES, target
from tests.acceptance.sink import Sink
from tests.acceptance.test_samples import samples
from tests.faults.invariants import Receipt
from tests.faults.watched import Watched
from tests.waiting import wait_for

SEED = int(os.environ.get("FAULTS_SEED", "20261121"))
REQUESTS_SENT = 1000
BODIES_SENT = 500
# Each delivery is held against the bytes that were sent, so that card details have to be in it.
WHOLE = SOURCES.replace('provider = "truust"', 'provider = "truust"\nkeep_card_details = true')
TOKENS = [
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\0",
        b"\xff",
        b" ",
        b"\t",
        b":",
        b"%00",
        b"../",
        b"?",
        b"#",
        b"HTTP/1.1",
    ),
    *(b"content-length: 5\r\n", b"content-length: -1\r\n", b"transfer-encoding: chunked\r\n", b"0\r\n\r\n"),
    *(
        b"expect: 100-continue\r\n",
        b"upgrade: websocket\r\nconnection: upgrade\r\n",
        b"\r\nupgrade: h2c\r\nconnection: Upgrade, HTTP2-Settings",
        b"connection: close\r\n",
    ),
    *(b"x" * 20_000, b"[" * 2000, b'{"a":', b'"', b"\\ud800", b"1e999", b"NaN", b"-0", b"9" * 5000),
]


def mutated(chaos: random.Random, data: bytes) -> bytes:
    """Change a few places of it: bytes flipped, cut, doubled, or something put in."""
    for _ in range(chaos.choice([1, 1, 2, 4, 8])):
        at, length = chaos.randrange(len(data) + 1), chaos.choice([1, 1, 4, 32])
        match chaos.randrange(6):
            case 0:
                data = data[:at] + chaos.randbytes(length) + data[at + length :]
            case 1:
                data = data[:at] + data[at + length :]
            case 2:
                data = data[:at] + data[at : at + length] * 3 + data[at + length :]
            case 3:
                data = data[:at]
            case _:
                data = data[:at] + chaos.choice(TOKENS) + data[at:]
    return data


def request(provider: str, body: bytes) -> bytes:
    path, headers = REQUESTS[provider]
    lines = [f"POST {path} HTTP/1.1", "host: x", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def body_in(data: bytes) -> bytes | None:
    """Return the body of the first request in it, as another parser reads it; None if that refuses it."""
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(data)
    body = b""
    try:
        while not isinstance(event := reader.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return None
            body += bytes(event.data) if isinstance(event, h11.Data) else b""
    except h11.RemoteProtocolError:
        return None
    return body


@pytest.mark.case(n=40)
@pytest.mark.case(n=41)
def test_no_request_is_a_5xx_or_ends_a_process_and_what_is_taken_is_kept(folder: Path, sink: Sink) -> None:
    chaos = random.Random(SEED)
    known = [(name.partition("/")[0], body) for name, body in samples().items()]
    requests = [mutated(chaos, request(*chaos.choice(known))) for _ in range(REQUESTS_SENT - 100)]
    requests += [chaos.randbytes(chaos.randrange(1, 3000)) for _ in range(100)]
    print(f"seed {SEED}")
    with Watched(folder, target("all", sink.port), sink, sources=HASTY + WHOLE) as gateway:
        gateway.bodies_recur = True  # a truust body may hold no key of its own; others differ in a header
        before = gateway.children("ingress") + gateway.children("workers")
        with ThreadPoolExecutor(32) as senders:
            answers = list(
                senders.map(lambda data: said(gateway.port, data, timeout_s=0.5, ends=False), requests)
            )
        counts = Counter(status for answer in answers for status in statuses(answer))
        print(dict(counts))
        assert {status for status in counts if status >= 500} == set()
        assert counts[200] > 50, "some were only touched where it does not matter"
        assert counts[400] > 50
        for data, answer in zip(requests, answers, strict=True):
            ids = re.findall(rb'\r\n\r\n\{"id":"(evt_[0-9a-f]+)"', answer)
            sent = body_in(data) if len(ids) == len(statuses(answer)) == 1 else None
            gateway.receipts += [Receipt(id.decode(), "any", sent) for id in ids]
        assert sum(receipt.body is not None for receipt in gateway.receipts) > 50
        wait_for(lambda: len(gateway.lines("request")) >= counts[200], "the log")
        assert "Traceback" not in gateway.log.read_text(errors="replace")
        assert gateway.children("ingress") + gateway.children("workers") == before, "the same processes"


@pytest.mark.case(n=40)
def test_mutated_bodies_of_every_provider_are_taken_and_end_no_worker(folder: Path, sink: Sink) -> None:
    chaos = random.Random(SEED)
    known = [(name.partition("/")[0], body) for name, body in samples().items()]
    print(f"seed {SEED}")
    with Watched(folder, target("all", sink.port), sink, sources=WHOLE) as gateway:
        gateway.bodies_recur = True
        before = gateway.children("ingress") + gateway.children("workers")

        def send(sample: tuple[str, bytes]) -> int:
            return gateway.post(*sample).status

        sent = [(provider, mutated(chaos, body)) for provider, body in chaos.choices(known, k=BODIES_SENT)]
        with ThreadPoolExecutor(8) as senders:
            assert set(senders.map(send, sent)) == {200}
        gateway.drain()
        assert gateway.children("ingress") + gateway.children("workers") == before
        assert gateway.lines("adapter failed") == []
        assert gateway.redis.zcard("hr:quarantine") > 100
        assert len(sink.deliveries) > 20
