"""The providers of a soak: they play `headrace simulate`'s scenarios, send again what was not answered, and
sometimes what was; and write down what they were told.
"""

import http.client
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from hashlib import sha256
from random import Random

import msgspec

from shared.providers import simulations
from shared.providers.base import AnyAdapter
from shared.simulation.plan import Chances, Plan, Planned
from shared.simulation.sending import Pace, written
from tests.soak.records import Request

CONNECTIONS = 6
TIMEOUT_S = 8.0
AGAIN_AFTER_S = 0.3
LAST_TRIES_S = 20.0
CHANCES = Chances(duplicates=0.1, corrupt=0.03)
LATE_COPIES = 0.08
REMEMBERED = 500


class Senders:
    """All providers at once, over a few connections at one even pace in all."""

    def __init__(self, adapters: Sequence[AnyAdapter], port: int, *, per_s: float, seed: str) -> None:
        self.requests: list[Request] = []
        self._adapters = adapters
        self._port = port
        self._pace = Pace(per_s)
        self._chance = Random(f"{seed}:senders")
        self._tracks = self._lifecycles(Random(f"{seed}:lifecycles"))
        self._answered: deque[Planned] = deque(maxlen=REMEMBERED)
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._give_up_at = float("inf")
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(CONNECTIONS)]
        self._failure: BaseException | None = None

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Begin nothing new, and wait until what was begun is answered, or given up."""
        self._give_up_at = time.monotonic() + LAST_TRIES_S
        self._stopped.set()
        for thread in self._threads:
            thread.join(LAST_TRIES_S + 2 * TIMEOUT_S)
        if self._failure is not None:
            raise self._failure

    def _lifecycles(self, random: Random) -> Iterator[list[Planned]]:
        while True:
            adapter = random.choice(self._adapters)
            play = simulations()[adapter.provider]
            scenario = random.choice(play.scenarios)
            chances = CHANCES
            if len({step.event for step in scenario.steps}) < len(scenario.steps):
                # What tells the second of two like events apart may be the one between: it must arrive whole.
                chances = msgspec.structs.replace(CHANCES, corrupt=0.0)
            yield from Plan([adapter], [scenario], play.write, chances, count=1, random=random).tracks()

    def _work(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
        try:
            while not self._stopped.is_set():
                with self._lock:
                    track = next(self._tracks)
                for request in track:
                    if self._stopped.is_set():
                        return
                    self._send_until_answered(connection, request)
                    with self._lock:
                        late = self._chance.random() < LATE_COPIES and self._answered
                        again = self._chance.choice(self._answered) if late else None
                    if again is not None:
                        self._send_until_answered(connection, again)
        except BaseException as error:
            self._failure = error
        finally:
            connection.close()

    def _send_until_answered(self, connection: http.client.HTTPConnection, planned: Planned) -> None:
        while True:
            self._pace.wait()
            request = self._send(connection, planned)
            self.requests.append(request)
            if not request.maybe_kept:
                break
            if time.monotonic() > self._give_up_at:
                return
            time.sleep(AGAIN_AFTER_S)
        # A dispute that is sent again after its resolution is a second dispute: never sent late.
        if request.receipt and not planned.message.event.startswith("dispute_"):
            self._answered.append(planned)

    def _send(self, connection: http.client.HTTPConnection, planned: Planned) -> Request:
        path, body, headers = written(planned, time.time())
        status, receipt, sent_at = None, "", time.monotonic()
        try:
            connection.request("POST", f"/webhooks/{path}", body, headers)
            answer = connection.getresponse()
            content = answer.read()
            status = answer.status
            if status == 200:
                receipt = msgspec.json.decode(content, type=dict[str, str]).get("id", "")
        except (OSError, http.client.HTTPException):
            connection.close()  # it is opened again by the next request
        return Request(
            message=planned.message.id,
            source=planned.adapter.settings.name,
            event=planned.message.event,
            digest=sha256(body).hexdigest()[:32],
            sent_at=sent_at,
            answered_at=time.monotonic(),
            status=status,
            receipt=receipt,
            expected=planned.expected,
            whole=planned.fate == "sound",
        )
