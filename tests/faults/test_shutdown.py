"""SIGTERM: what is in flight has its grace, the rest is handed back, and nobody is charged for it."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from shared.process.folder import data_folder, socket_path
from tests.acceptance.gateway import Gateway, target
from tests.acceptance.sink import Delivery, Sink
from tests.faults.watched import Providers, Watched
from tests.packed import finished
from tests.waiting import wait_for

BODY = b'{"type":"dispute_raised","from":"a","to":"b","token":"%s"}'


@pytest.mark.case(n=9)
def test_a_worker_told_to_stop_hands_back_what_its_grace_did_not_finish(folder: Path, sink: Sink) -> None:
    def hang_once(_: Delivery, before: int) -> int:
        if before == 0:
            time.sleep(12)
        return 200

    sink.answers["slow"] = hang_once
    with Watched(folder, target("slow", sink.port, timeout='"30s"'), sink) as gateway:
        id = gateway.post("trustshare", BODY % b"t").id
        sink.wait_for("slow", 1)
        [worker] = gateway.children("workers")
        os.kill(worker, signal.SIGTERM)
        # Long before its lease of 40 s runs out: it was handed back.
        sink.wait_for("slow", 2, within_s=15)
        wait_for(lambda: len(finished(gateway.redis)) == 1, "the event to be finished")
        [row] = gateway.json("deliveries", id)["deliveries"]
        assert [attempt["n"] for attempt in row["attempts"]] == [1], "a hand-back is no attempt"
        assert gateway.redis.hget(f"hr:event:{id}", "lapsed:slow") is None
        assert gateway.lines("drained")[0]["handed_back"] == 1


def test_a_worker_told_to_stop_while_redis_is_away_leaves_the_rest_to_the_lease(
    folder: Path, sink: Sink
) -> None:
    answer = threading.Event()

    def wait_once(_: Delivery, before: int) -> int:
        if before == 0:
            answer.wait(30)
        return 200

    sink.answers["slow"] = wait_once
    with Gateway(folder, target("slow", sink.port, timeout='"3s"')) as gateway:
        gateway.post("trustshare", BODY % b"t")
        sink.wait_for("slow", 1)
        [worker] = gateway.children("workers")
        # Redis lives, and nobody finds it: its socket has another name, and all connections are cut.
        socket = socket_path(data_folder(gateway.config))
        gateway.redis.ping()  # our own connection stays
        hidden = socket.rename(socket.with_name("hidden"))
        gateway.redis.client_kill_filter(_type="normal", skipme=True)
        try:
            os.kill(worker, signal.SIGTERM)
            answer.set()
            wait_for(lambda: worker not in gateway.children("workers"), "the worker to end", within_s=60)
        finally:
            hidden.rename(socket)
        wait_for(lambda: len(finished(gateway.redis)) == 1, "the event to be finished", within_s=60)
        assert len(sink.of("slow")) == 2
        assert gateway.lines("not settled")
        assert "never retrieved" not in gateway.log.read_text()


@pytest.mark.case(n=9)
def test_an_ingress_told_to_stop_under_load_gives_no_provider_an_error(folder: Path, sink: Sink) -> None:
    with Watched(folder, target("all", sink.port), sink) as gateway:
        statuses: list[int] = []
        stop = threading.Event()

        def provider(number: int) -> None:
            while not stop.is_set():
                # A connection each: one that is kept alive may always be closed between two requests.
                statuses.append(
                    gateway.post("trustshare", BODY % b"%d-%d" % (number, len(statuses)), once=True).status
                )

        providers = [threading.Thread(target=provider, args=(number,)) for number in range(4)]
        for thread in providers:
            thread.start()
        for _ in range(3):
            time.sleep(0.5)
            [ingress] = gateway.children("ingress")
            os.kill(ingress, signal.SIGTERM)
            wait_for(lambda old=ingress: gateway.children("ingress") not in ([], [old]), "a new ingress")  # type: ignore[misc]
        wait_for(gateway.ready, "the ingress")
        stop.set()
        for thread in providers:
            thread.join(20)
        assert len(statuses) > 50
        assert set(statuses) <= {200, 503}
        assert statuses.count(200) > len(statuses) // 2
        accepted = statuses.count(200)
        wait_for(lambda: len(finished(gateway.redis)) >= accepted, "all to be delivered", within_s=40)


@pytest.mark.case(n=9)
def test_workers_told_to_stop_under_load_leave_nothing_in_hand(folder: Path, sink: Sink) -> None:
    def slowly(*_: object) -> int:
        time.sleep(0.1)
        return 200

    sink.answers["all"] = slowly
    with Watched(folder, target("all", sink.port), sink, workers=2) as gateway:
        with Providers(gateway, pause_s=0.01):
            for _ in range(3):
                time.sleep(1)
                worker = min(gateway.children("workers"))
                wait_for(
                    lambda pid=worker: pid in {line["pid"] for line in gateway.lines("worker starts")},  # type: ignore[misc]
                    "it to have begun",
                )
                os.kill(worker, signal.SIGTERM)
                # Its grace is 5 s; the rest is what starting and stopping processes takes here.
                wait_for(lambda old=worker: old not in gateway.children("workers"), "its end", within_s=12)  # type: ignore[misc]
        gateway.drain()
        assert [line["exit"] for line in gateway.lines("child died, starting it again")] == [0, 0, 0]
        ids = finished(gateway.redis)
        lapsed = [id for id in ids if gateway.redis.hget(f"hr:event:{id}", "lapsed:all")]
        assert lapsed == [], "no lease had to run out"
        assert set(sink.counts("all").values()) == {1}
