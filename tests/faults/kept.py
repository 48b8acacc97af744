"""Records of a gateway as a file: taken from one Redis, put into another.

`python -m tests.faults.kept FILE` lets this version's gateway write one of every kind of record, and keeps
them. Such a file is kept for good: whoever changes a record's form adds another, and both are still read.
"""

import asyncio
import json
import os
import signal
import sys
import time
from base64 import b64decode, b64encode
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from redis import Redis

from shared.process.folder import data_folder, socket_path
from shared.settings import PREFIX
from shared.store.address import parse_address
from shared.store.client import RedisClient
from shared.store.packer import Packer
from tests.acceptance.gateway import Gateway, target
from tests.acceptance.sink import Sink
from tests.waiting import wait_for

FOLDER = Path(__file__).parent / "records"
LONG = "{ initial = '1h', factor = 1.0, max = '1h', attempts = 5 }"
ONCE = "{ attempts = 1 }"
FOR_EVER = '[retention]\nevents = "3650d"\ndead_letters = "3650d"\n[dedupe]\nwindow = "3650d"\n'


def targets(port: int) -> str:
    """The targets of the file: one that works, one that retries, one that gives up, one that keeps order."""
    return (
        target("works", port)
        + target("retries", port, retry=LONG)
        + target("gives-up", port, retry=ONCE)
        + target("keeps-order", port, retry=LONG, ordering='"transaction"')
    )


def event(token: str, **changes: str) -> bytes:
    """An event of the file."""
    fields = {"type": "dispute_raised", "from": "a@example.com", "to": "b@example.com", "token": token}
    return json.dumps(fields | changes).encode()


def dump(redis: Redis) -> dict[str, Any]:
    """Return all of Headrace's records that last."""
    found: list[Any] = redis.keys("hr:*")
    passing = (b"hr:rung:", b"hr:sweeper:", b"hr:duty:", b"hr:ready", b"hr:turn:", b"hr:targets")
    records: dict[str, Any] = {}
    for key in sorted(key for key in found if not key.startswith(passing)):
        kept: Any = redis.dump(key)
        lasts = redis.pttl(key) == -1
        records[key.decode()] = {"expires": not lasts, "dump": b64encode(kept).decode()}
    return records


def load(redis: Redis, records: dict[str, Any]) -> None:
    """Put records into an empty Redis; what expires has a day left."""
    for key, record in records.items():
        redis.restore(key, 86_400_000 if record["expires"] else 0, b64decode(record["dump"]))


async def pack(url: str) -> None:
    """Pack what has finished."""
    client = RedisClient(parse_address(url, PREFIX), timeout_s=5)
    assert await Packer(client, after_ms=-1000).pack() == 1
    await client.close()


def write(path: Path) -> None:
    """Let a gateway of this version write one record of every kind, and keep them all."""
    sink = Sink()
    with TemporaryDirectory(prefix="hr-") as name:
        gateway = Gateway(Path(name), FOR_EVER + targets(sink.port))
        with gateway:
            gateway.post("trustshare", event("packed"))
            wait_for(lambda: gateway.redis.zcard("hr:finished") == 1, "the first event to be finished")
            asyncio.run(pack(f"unix://{socket_path(data_folder(gateway.config))}"))
            sink.answers |= dict.fromkeys(("retries", "gives-up", "keeps-order"), lambda *_: 500)
            for token in ("first", "second", "first"):
                gateway.post("trustshare", event(token))
            gateway.post("trustshare", event("first", type="transaction_initiated"))
            gateway.post("trustshare", b"no JSON")
            gateway.post("trustshare", b'{"type":"handshake"}')
            wait_for(lambda: gateway.redis.zcard("hr:dead:gives-up") == 3, "dead letters")
            wait_for(lambda: gateway.redis.zcard("hr:due:retries") == 3, "retries")
            wait_for(lambda: gateway.redis.zcard("hr:duplicates") == 1, "the copy")
            wait_for(lambda: gateway.redis.zcard("hr:quarantine") == 1, "the quarantine")
            # Now one that is on its way when its worker dies, and some that were taken or never taken.
            sink.answers["works"] = lambda *_: time.sleep(5) or 200  # type: ignore[func-returns-value]
            gateway.post("trustshare", event("leased"))
            wait_for(lambda: gateway.redis.zcard("hr:leased:works") == 1, "a delivery under way")
            assert gateway.process is not None
            os.kill(gateway.process.pid, signal.SIGSTOP)  # so that it starts no new one
            gateway.kill("workers")
            for token in ("taken", "waiting"):
                gateway.post("trustshare", event(token))
            gateway.redis.xreadgroup("workers", "a-dead-worker", {"hr:inbox:trustshare": ">"}, count=1)
            records = dump(gateway.redis)
            os.kill(gateway.process.pid, signal.SIGCONT)
    sink.close()
    path.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
