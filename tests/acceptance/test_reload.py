"""A changed configuration is taken up by the running processes, and a bad one changes nothing."""

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.gateway import SOURCES, TRUSTSHARE_SECRET, Gateway, target
from tests.acceptance.sink import Sink
from tests.waiting import wait_for


def body() -> bytes:
    return json.dumps({"type": "dispute_raised", "from": "a", "to": "b", "token": uuid4().hex}).encode()


def test_a_change_of_the_file_drops_no_request_and_takes_effect(folder: Path, sink: Sink) -> None:
    gateway = Gateway(folder, target("old", sink.port))
    with gateway:
        statuses: list[int] = []
        stop = threading.Event()

        def provider() -> None:
            while not stop.is_set():
                statuses.append(gateway.post("trustshare", body(), once=True).status)

        providers = [threading.Thread(target=provider) for _ in range(3)]
        for thread in providers:
            thread.start()
        processes = gateway.children("ingress") + gateway.children("workers")
        gateway.config.write_text(gateway.config.read_text() + target("new", sink.port))
        sink.wait_for("new", 5)
        stop.set()
        for thread in providers:
            thread.join()
        assert set(statuses) == {200}
        assert gateway.children("ingress") + gateway.children("workers") == processes, "the same processes"
        wait_for(lambda: len(sink.of("old")) == len(statuses), "all to reach the old target too")


def test_a_bad_file_keeps_the_old_configuration_and_says_so_once(folder: Path, sink: Sink) -> None:
    gateway = Gateway(folder, target("one", sink.port))
    with gateway:
        gateway.post("trustshare", body())
        sink.wait_for("one", 1)
        good = gateway.config.read_text()
        gateway.config.write_text(good.replace("[[targets]]", "[[targetz]]"))

        def said() -> list[dict[str, Any]]:
            return gateway.lines("configuration not reloaded: going on with the old one")

        wait_for(lambda: len(said()) == 2, "ingress and worker to say so")
        assert "targetz" in said()[0]["problem"]
        assert gateway.post("trustshare", body()).status == 200
        sink.wait_for("one", 2)
        gateway.kill("workers")  # one that comes to a bad file does not end the others
        wait_for(
            lambda: len(gateway.lines("child died, starting it again")) >= 2, "a worker that cannot start"
        )
        assert gateway.post("trustshare", body()).status == 200
        gateway.config.write_text(good + target("two", sink.port))
        wait_for(lambda: gateway.lines("configuration reloaded"), "the mended file to be taken up")
        sink.wait_for("one", 3)
        gateway.post("trustshare", body())
        sink.wait_for("two", 1)
        assert len(said()) == 2


@pytest.mark.case(n=55)
def test_a_process_that_is_started_again_while_the_file_is_emptied_waits_for_it(
    folder: Path, sink: Sink
) -> None:
    """It would answer 404 to every provider, and look for work in the Redis of a configuration without any."""
    with Gateway(folder, target("one", sink.port)) as gateway:
        gateway.post("trustshare", body())
        sink.wait_for("one", 1)
        good = gateway.config.read_text()
        gateway.config.write_text("")
        killed = {gateway.kill("ingress"), gateway.kill("workers")}

        def refused() -> set[str]:
            lines = gateway.lines("child died, starting it again")
            return {line["child"] for line in lines if line["exit"] == 2}

        wait_for(lambda: refused() == {"ingress-1", "worker-1"}, "both to refuse the file", within_s=60)
        assert "has neither sources nor targets any more" in gateway.log.read_text()
        statuses: list[int] = []
        provider = threading.Thread(
            target=lambda: statuses.append(gateway.post("trustshare", body(), timeout_s=60).status)
        )
        provider.start()
        gateway.config.write_text(good)
        provider.join(60)
        assert statuses == [200], "it waited, and none was turned away"
        sink.wait_for("one", 2, within_s=60)
        assert not killed & {*gateway.children("ingress"), *gateway.children("workers")}


def test_sighup_reloads_and_ends_no_process(folder: Path, sink: Sink) -> None:
    secret_file = folder / "secret"
    secret_file.write_text(TRUSTSHARE_SECRET)
    sources = SOURCES.replace(f'"{TRUSTSHARE_SECRET}"', '"${file:secret}"')
    gateway = Gateway(folder, target("one", sink.port), sources=sources)
    with gateway:
        assert gateway.process is not None
        assert gateway.post("trustshare", body()).status == 200
        sink.wait_for("one", 1)
        processes = gateway.children("ingress") + gateway.children("workers")
        # The file itself is the same: only SIGHUP makes them look at what it names.
        secret_file.write_text("another-secret-0123456789")
        os.kill(gateway.process.pid, signal.SIGHUP)
        headers = {"x-trustshare-secret": "another-secret-0123456789"}
        wait_for(
            lambda: gateway.request("POST", "/webhooks/trustshare", body(), headers).status == 200,
            "the new secret to be accepted",
        )
        assert gateway.post("trustshare", body()).status == 401, "the old one is refused"
        wait_for(lambda: len(gateway.lines("configuration reloaded")) == 2, "the worker to reload too")
        sink.wait_for("one", 2)
        assert gateway.children("ingress") + gateway.children("workers") == processes


@pytest.mark.case(n=27)
def test_a_changed_url_takes_effect_on_the_next_attempt(folder: Path, sink: Sink) -> None:
    """FAULTS 27: changed while retries wait: the new URL."""
    sink.answers["wrong"] = lambda *_: 404
    retry = "{ initial = '3s', factor = 1.0, max = '3s', attempts = 5 }"
    gateway = Gateway(
        folder, target("one", sink.port, retry=retry, url=f'"http://127.0.0.1:{sink.port}/wrong"')
    )
    with gateway:
        id = gateway.post("trustshare", body()).id
        sink.wait_for("wrong", 1)
        gateway.config.write_text(gateway.config.read_text().replace("/wrong", "/right"))
        [delivery] = sink.wait_for("right", 1)
        assert delivery.id == id
    assert len(sink.of("wrong")) == 1
