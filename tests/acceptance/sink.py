"""A target: an HTTP server that keeps every request it gets, and answers as a test wants."""

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from standardwebhooks.webhooks import Webhook

from tests.waiting import wait_for


class Delivery(NamedTuple):
    """One request that reached a target."""

    target: str
    id: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.body)
        return event

    def verify(self, secret: str) -> None:
        """Check the signature with the Standard Webhooks project's own verifier."""
        Webhook(secret).verify(self.body, self.headers)


# Given the delivery and how many of this event came to this target before: the status to answer.
Answers = Callable[[Delivery, int], int]


class Sink:
    """Targets by path: what is POSTed to `/ledger` is the target `ledger`'s."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.answers: dict[str, Answers] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self._seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._lock = threading.Lock()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = sink.take(
                    self.path.strip("/"), {k.lower(): v for k, v in self.headers.items()}, body
                )
                self.send_response(status)
                for name, value in sink.headers.get(self.path.strip("/"), {}).items():
                    self.send_header(name, value)
                self.send_header("content-length", "4")
                self.end_headers()
                self.wfile.write(b"seen")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a killed worker resets its connections

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, target: str, headers: dict[str, str], body: bytes) -> int:
        delivery = Delivery(target, headers["webhook-id"], headers, body, time.monotonic())
        with self._lock:
            before = self._seen[target][delivery.id]
            self._seen[target][delivery.id] += 1
            self.deliveries.append(delivery)
        answer = self.answers.get(target)
        return answer(delivery, before) if answer else 200

    def forget(self, delivery: Delivery) -> None:
        """Take one delivery of this event off the record, as if it had not come."""
        with self._lock:
            self._seen[delivery.target] -= Counter([delivery.id])
            self.deliveries.remove(next(each for each in self.deliveries[::-1] if each.id == delivery.id))

    def of(self, target: str) -> list[Delivery]:
        with self._lock:
            return [delivery for delivery in self.deliveries if delivery.target == target]

    def counts(self, target: str) -> Counter[str]:
        """How often each event came to a target."""
        with self._lock:
            return Counter(self._seen[target])

    def wait_for(self, target: str, count: int, *, within_s: float = 20) -> list[Delivery]:
        """Wait until `count` requests have come to a target."""
        wait_for(lambda: len(self.of(target)) >= count, f"{count} requests at {target}", within_s=within_s)
        return self.of(target)

    def begin_anew(self) -> None:
        """Begin anew: as if nothing had come yet."""
        with self._lock:
            self.deliveries.clear()
            self._seen.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
