"""A gateway whose way to Redis can be cut at a command."""

from http.client import HTTPException

from tests.acceptance.sink import Sink
from tests.faults.invariants import members
from tests.faults.proxy import Proxy
from tests.faults.watched import Watched, body
from tests.waiting import wait_for

ONE, TWO = "one", "two"
RETRY = "{ initial = '0.2s', factor = 1.0, max = '0.2s', attempts = 2, jitter = 0.0 }"


class Stage:
    """A gateway whose way to Redis can be cut at a command."""

    def __init__(self, gateway: Watched, proxy: Proxy, sink: Sink) -> None:
        self.gateway, self.proxy, self.sink = gateway, proxy, sink
        # Once through, so that Redis knows every script and each process has its connections.
        gateway.post("trustshare", body())
        for name in (ONE, TWO):
            sink.wait_for(name, 1, within_s=30)
        gateway.drain()

    def kill_at(self, command: bytes, kind: str, *, ran: bool) -> None:
        """Have a process of a kind killed at its next `command`: before Redis gets it, or once it ran."""
        self.proxy.cut(command, ran=ran, then=lambda: self.kill(kind))

    def kill(self, kind: str) -> int:
        """Kill a process of a kind. What a worker had leased is nobody's at once: no test waits a minute."""
        killed = self.gateway.kill(kind)
        if kind == "workers":
            self.end_leases()
        return killed

    def end_leases(self) -> None:
        """Let every lease run out now: nobody holds what was claimed."""
        for name in (ONE, TWO):
            leases = f"hr:leased:{name}"
            for id in members(self.gateway.redis, leases):
                self.gateway.redis.zadd(leases, {id: 1}, xx=True)

    def killed(self, times: int = 1) -> None:
        wait_for(lambda: self.proxy.cuts_made >= times, "the kill", within_s=60)

    def post_until_taken(self, event: bytes) -> tuple[str, int]:
        """Send as a provider does; return the receipt, and how often there was none."""
        refused = 0
        while True:
            try:
                answer = self.gateway.post("trustshare", event, timeout_s=5)
            except (OSError, HTTPException):
                refused += 1
                assert refused < 10
            else:
                return answer.id, refused

    def copies(self) -> int:
        return self.gateway.redis.zcard("hr:duplicates")
