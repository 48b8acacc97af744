"""Sends a plan over a few kept-alive connections, with a thread for each, at most at the given rate."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from typing import ClassVar
from urllib.parse import SplitResult, urlsplit

from shared import __version__
from shared.errors import CommandFailed
from shared.simulation.plan import Planned
from shared.simulation.summary import Tally

TIMEOUT_S = 10.0


class Pace:
    """Spaces requests at an even rate; with None, they are not spaced."""

    def __init__(self, per_s: float | None) -> None:
        self._gap_s = 1 / per_s if per_s else 0.0
        self._next = time.monotonic()
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Sleep until it is this caller's turn."""
        if not self._gap_s:
            return
        with self._lock:
            mine = max(self._next, time.monotonic())
            self._next = mine + self._gap_s
        time.sleep(max(0.0, mine - time.monotonic()))


class Sending:
    """One run: it sends `tracks` over `concurrency` connections to `url`, each track in its order."""

    def __init__(
        self,
        tracks: Iterator[list[Planned]],
        url: str,
        *,
        concurrency: int,
        per_s: float | None = None,
        on_track: Callable[[], None] = lambda: None,
    ) -> None:
        self._tracks = tracks
        self._url = urlsplit(url)
        self._concurrency = concurrency
        self._pace = Pace(per_s)
        self._on_track = on_track
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._failure: BaseException | None = None
        self.tally = Tally()

    def run(self) -> Tally:
        """Send everything, and return the tally. Ctrl-C stops after the requests under way.

        Raises: CommandFailed if nothing answers at all.
        """
        self._check()
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self._concurrency)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            self._stopped.set()
            for thread in threads:
                thread.join(TIMEOUT_S)
        if self._failure is not None:
            raise self._failure
        return self.tally

    def _check(self) -> None:
        connection = _Connection(self._url)
        try:
            connection.open()
        except OSError as error:
            where = f"{self._url.scheme}://{self._url.netloc}"
            raise CommandFailed(
                f"no ingress answers at {where}: {error.strerror or error}"
                " (start one with `headrace up`, or give --url)"
            ) from None
        finally:
            connection.close()

    def _work(self) -> None:
        tally = Tally()
        connection = _Connection(self._url)
        try:
            while (track := self._next()) is not None:
                for request in track:
                    if self._stopped.is_set():
                        return
                    self._pace.wait()
                    connection.send(request, tally)
                self._on_track()
        except BaseException as error:
            self._failure = error
            self._stopped.set()
        finally:
            connection.close()
            with self._lock:
                self.tally.merge(tally)

    def _next(self) -> list[Planned] | None:
        with self._lock:
            return None if self._stopped.is_set() else next(self._tracks, None)


class _Connection:
    """One kept-alive connection, opened again after a failure."""

    _KINDS: ClassVar[dict[str, type[http.client.HTTPConnection]]] = {
        "http": http.client.HTTPConnection,
        "https": http.client.HTTPSConnection,
    }

    def __init__(self, url: SplitResult) -> None:
        self._base = url.path.rstrip("/")
        self._http = self._KINDS[url.scheme](url.hostname or "", url.port, timeout=TIMEOUT_S)

    def open(self) -> None:
        """Connect. Raises: OSError."""
        self._http.connect()

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def send(self, request: Planned, tally: Tally) -> None:
        """Send one request and count its answer."""
        path, body, headers = written(request, time.time())
        started = time.perf_counter()
        status: int | None = None
        problem = ""
        try:
            self._http.request("POST", f"{self._base}/webhooks/{path}", body, headers)
            answer = self._http.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException) as error:
            problem = f"no answer ({type(error).__name__})"
            self.close()
        tally.add(request, status, (time.perf_counter() - started) * 1000, problem)


def written(request: Planned, now: float) -> tuple[str, bytes, dict[str, str]]:
    """Return path, body and headers; they are signed now, as a sender does."""
    adapter, message = request.adapter, request.message
    body = message.body[: len(message.body) // 2] if request.fate == "cut" else message.body
    path = adapter.paths()[0]
    proof = dict(adapter.credential_headers(body, id=message.id, now=now)) if message.proven else {}
    if request.fate == "forged":
        # Without credentials in a header, the path holds them.
        proof = {name: value + "x" for name, value in proof.items()}
        path = path if proof else path + "x"
    user_agent = f"Headrace-simulate/{__version__}"
    return path, body, {"content-type": "application/json", "user-agent": user_agent, **proof}
