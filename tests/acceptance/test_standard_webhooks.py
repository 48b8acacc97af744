"""Standard Webhooks over the wire: what is signed comes in once, what is malformed is 401 and never 500."""

import socket
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook

from tests.acceptance.gateway import SECRET, Gateway, target
from tests.acceptance.sink import Sink
from tests.unit.test_providers_standard_webhooks import MALFORMED
from tests.waiting import wait_for

SOURCE = f"""
[[sources]]
name = "orders"
provider = "standard-webhooks"
secrets = ["whsec_bmV3ZXN0LXNlY3JldC1uZXdlc3Qtc2VjcmV0", "{SECRET}"]
"""


def signed(id: str, body: str, *, prefix: str = "webhook", at: float | None = None) -> dict[str, str]:
    """Return the headers that the standard's own library makes."""
    moment = datetime.fromtimestamp(int(at or time.time()), UTC)
    return {
        f"{prefix}-id": id,
        f"{prefix}-timestamp": str(int(moment.timestamp())),
        f"{prefix}-signature": Webhook(SECRET).sign(id, moment, body),
    }


def status_of(port: int, headers: list[tuple[bytes, bytes]], body: bytes) -> int:
    """Send headers as they are, whatever bytes they hold, and return the answer's status."""
    lines = [b"%s: %s\r\n" % header for header in headers]
    head = b"POST /webhooks/orders HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(head + b"".join(lines) + b"connection: close\r\n\r\n" + body)
        return int(connection.recv(65536).split(b" ")[1])


def test_what_is_signed_comes_in_once_under_either_name_of_the_headers(folder: Path, sink: Sink) -> None:
    # What a parser and a printer would change: a repeated key, number tokens, escapes, order, white space.
    body = ' {"type":"x","type":"order.paid",\n"timestamp":"2026-03-02T10:01:44.123Z","b":1.10,"a":1e2,'
    body += '"n":12345678901234567890123,"\\u00e9":"\\/ü"} '
    with Gateway(folder, target("all", sink.port), sources=SOURCE) as gateway:

        def post(headers: dict[str, str], content: str = body) -> int:
            return gateway.request("POST", "/webhooks/orders", content.encode(), headers).status

        assert post(signed("msg_1", body)) == 200
        assert post(signed("msg_2", body, prefix="svix")) == 200
        for again in (signed("msg_1", body, at=time.time() - 60), signed("msg_1", body, prefix="svix")):
            assert post(again) == 200
        assert post(signed("msg_3", body), body + " ") == 401
        assert post(signed("msg_3", body, at=time.time() - 310)) == 401
        assert post(signed("msg_3", body, at=time.time() + 310)) == 401
        assert (
            gateway.request("POST", "/webhooks/orders/x", body.encode(), signed("msg_3", body)).status == 404
        )
        sink.wait_for("all", 2)
        wait_for(lambda: gateway.redis.zcard("hr:duplicates") == 2, "the copies to be recorded")
    assert len(sink.of("all")) == 2
    for delivery in sink.of("all"):
        event = delivery.event
        assert (event["type"], event["time"]) == ("order.paid", "2026-03-02T10:01:44.123Z")
        assert event["data"]["status"] is None
        assert b'"original":' + body.encode() in delivery.body


@pytest.mark.case(n=31)
def test_malformed_headers_of_every_kind_are_refused(folder: Path, sink: Sink) -> None:
    with Gateway(folder, target("all", sink.port), sources=SOURCE) as gateway:
        answers = {name: status_of(gateway.port, sent, b"{}") for name, sent in MALFORMED.items()}
        # The HTTP parser itself refuses a control character in a header; credentials twice are ambiguous.
        refused_early = {name for name, status in answers.items() if status == 400}
        assert refused_early <= {
            *("an id with a control character", "the id twice", "the timestamp twice", "the signature twice")
        }
        assert {status for name, status in answers.items() if name not in refused_early} == {401}
        assert gateway.redis.keys("hr:inbox:*") == []
        assert [line for line in gateway.lines("request") if line["status"] == 500] == []
