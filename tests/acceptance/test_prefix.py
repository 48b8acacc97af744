"""Gateways that share one Redis, each under a prefix of its own: none takes, shows or removes what is another's."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis

from shared.settings import PREFIX
from tests.acceptance.gateway import HEADRACE, Gateway, clean_env, target
from tests.acceptance.sink import Sink
from tests.conftest import RedisServer
from tests.waiting import wait_for

OTHER = "other:"
QUEUES = {"headrace", "other:headrace"}
# What Kombu writes for remote control, for a gateway with the default prefix.
KOMBU = {"_kombu.binding_deadlines", "_kombu.binding.headrace.pidbox"}
BODY = b'{"type": "dispute_raised", "from": "a", "to": "b", "description": "", "token": "%d"}'


def gateway(folder: Path, name: str, sink: Sink, redis_url: str, prefix: str, keys: str = "") -> Gateway:
    """Return a gateway with a target that only it has, and one whose name both have: it gives up at once."""
    (folder / name).mkdir()
    url = f'"http://127.0.0.1:{sink.port}/{name}-ledger"'
    targets = target(name, sink.port) + target("ledger", sink.port, url=url, retry="{ attempts = 1 }")
    return Gateway(folder / name, f"{targets}\n{keys}", redis_url=redis_url, prefix=prefix)


@contextmanager
def running(kind: str, of: Gateway) -> Iterator[None]:
    """Run an `ingress` or a `worker` of a gateway."""
    with open(of.log, "ab") as log:
        argv = [HEADRACE, kind, "--config", str(of.config)]
        process = subprocess.Popen(argv, stdout=log, stderr=log, env=clean_env())
    try:
        yield
    finally:
        process.terminate()
        process.wait(15)


def names(redis: Redis) -> set[str]:
    return {key.decode() for key in redis.scan_iter(count=1000)}


def test_gateways_with_prefixes_of_their_own_share_a_redis_and_nothing_else(
    redis_server: RedisServer, redis_url: str, folder: Path, sink: Sink
) -> None:
    sink.answers["second-ledger"] = lambda _, __: 500
    first = gateway(
        folder, "first", sink, redis_url, PREFIX, "[retention]\nevents = '1s'\ndead_letters = '1s'"
    )
    second = gateway(folder, "second", sink, redis_url, OTHER)
    with redis_server.client() as redis, first, running("ingress", second):
        wait_for(second.ready, "the second gateway's ingress")
        theirs = {second.post("trustshare", BODY % n).id for n in range(3)}
        unread = second.post("trustist", b"no JSON").id
        assert redis.llen("other:headrace") > 0
        # The first's worker rings, sweeps, admits, delivers and removes; of the second's it takes nothing.
        mine = {first.post("trustshare", BODY % n).id for n in range(5)}  # the same bytes: no copies
        sink.wait_for("first", 5)
        sink.wait_for("first-ledger", 5)
        wait_for(lambda: first.json("events")["events"] == [], "retention to have removed the first's events")
        assert redis.llen("other:headrace") > 0
        assert redis.xlen("other:inbox:trustshare") == 3
        assert {delivery.target for delivery in sink.deliveries} == {"first", "first-ledger"}

        with running("worker", second):
            wait_for(
                lambda: redis.zcard("other:dead:ledger") == 3, "the second's worker to deliver and give up"
            )
            sink.wait_for("second", 3)
            wait_for(lambda: redis.zcard("other:quarantine") == 1, "what is no JSON to be in quarantine")
            late = first.post("trustshare", BODY % 99).id
            sink.wait_for("first-ledger", 6)
            wait_for(lambda: first.json("events")["events"] == [], "retention to have removed it")

            assert {event["id"] for event in second.json("events")["events"]} == theirs
            assert {letter["id"] for letter in second.json("dead-letters")["dead_letters"]} == theirs
            assert [held["id"] for held in second.json("quarantine")["quarantined"]] == [unread]
            assert first.json("dead-letters")["dead_letters"] == first.json("quarantine")["quarantined"] == []
            for of, its, dead in ((first, {"first", "ledger"}, 0), (second, {"second", "ledger"}, 3)):
                rows = {row["name"]: row for row in of.json("targets")["targets"]}
                assert rows.keys() == its
                assert rows["ledger"]["dead_letters"] == dead
            assert first.command("events", next(iter(theirs))).returncode != 0
        assert sink.counts("first").keys() == mine | {late}
        assert sink.counts("second").keys() == sink.counts("second-ledger").keys() == theirs
        assert {
            name for name in names(redis) - QUEUES - KOMBU if not name.startswith((PREFIX, OTHER))
        } == set()
