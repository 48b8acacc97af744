"""Case 39: a great backlog waits when a worker starts. FAULTS_BACKLOG=1000000 runs it at its full size."""

import json
import os
import tempfile
from pathlib import Path

import pytest
from redis import Redis

from tests.acceptance.gateway import Gateway, target
from tests.acceptance.sink import Sink
from tests.conftest import RedisServer
from tests.faults.watched import resident_bytes
from tests.packed import finished
from tests.waiting import wait_for

WAITING = int(os.environ.get("FAULTS_BACKLOG", "200000"))
EARLY, LATE = 10_000, 40_000
DELIVERED = 500
# Batches of four threads and what is in flight: so far may one overtake another.
WINDOW = 6_000
GROWTH_BYTES = 40 * 1024 * 1024

INBOX = "hr:inbox:trustshare"
FILL = """
for number = tonumber(ARGV[1]), tonumber(ARGV[2]) do
    redis.call('XADD', KEYS[1], '*', 'body',
        '{"type":"dispute_raised","from":"a","to":"b","token":"' .. string.format('%09d', number) .. '"}')
end
"""


@pytest.mark.case(n=39)
def test_a_great_backlog_is_worked_off_oldest_first_in_constant_memory(sink: Sink) -> None:
    # Its log is too large for memory that the other tests share.
    with tempfile.TemporaryDirectory(prefix="hr-") as name:
        folder = Path(name)
        server = RedisServer(folder, "--maxmemory", "12gb", "--appendfsync", "no")
        server.start()
        redis = server.client()
        for start in range(0, WAITING, 10_000):
            redis.eval(FILL, 1, INBOX, str(start), str(min(start + 10_000, WAITING) - 1))
        gateway = Gateway(folder, target("all", sink.port), redis_url=server.url)
        try:
            with gateway:
                worker = gateway.children("workers")[0]

                def taken(count: int) -> bool:
                    return redis.xlen(INBOX) <= WAITING - count

                wait_for(lambda: taken(EARLY), "the first to be admitted", within_s=60)
                early = resident_bytes(worker)
                wait_for(lambda: taken(LATE), "many to be admitted", within_s=120)
                wait_for(lambda: len(sink.deliveries) >= DELIVERED, "deliveries beside it", within_s=60)
                late = resident_bytes(worker)
                assert gateway.children("workers") == [worker]
                # Ingress stays open beside it.
                assert gateway.ready()
            assert late - early < GROWTH_BYTES, f"from {early:,} to {late:,} bytes"
            came = [int(json.loads(each.body)["data"]["transaction_id"]) for each in sink.deliveries]
            ahead = max(number - place for place, number in enumerate(came))
            assert ahead < WINDOW, "the oldest first"
            assert len(came) == len(set(came))
            assert all_there(redis) == WAITING
            print(f"{WAITING:,} waiting; {early:,} → {late:,} bytes; at most {ahead} ahead of its turn")
        finally:
            redis.close()
            server.kill()


def all_there(redis: Redis) -> int:
    """How many are waiting, open or finished: every one is in exactly one of these."""
    return redis.xlen(INBOX) + redis.zcard("hr:open") + len(finished(redis))
