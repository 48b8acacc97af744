"""What is in Celery's queue and is no doorbell, or is said to all workers and is no command: it is dropped and logged
without its content, and work goes on."""

import json
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery

from shared.store.doorbell import ADMIT, DELIVER, Doorbell, envelope
from tests.acceptance.gateway import target
from tests.acceptance.sink import Sink
from tests.faults.watched import Watched, body
from tests.waiting import wait_for

QUEUE = "headrace"
CANARY = "neighbour-canary"


def bell(**changes: Any) -> dict[str, Any]:
    """A doorbell, taken to pieces, with some of them changed; None leaves one out."""
    message: dict[str, Any] = json.loads(envelope(Doorbell(ADMIT, CANARY)))
    for name, value in changes.items():
        place = message
        *way, last = name.split("__")
        for step in way:
            place = place[step]
        if value is None:
            del place[last.replace("_", "-") if last.replace("_", "-") in place else last]
        else:
            place[last] = value
    return message


def arguments(*args: Any, **others: Any) -> str:
    return b64encode(json.dumps([args, others, {}]).encode()).decode()


MALFORMED: dict[str, Any] = {
    "no JSON": CANARY.encode(),
    "empty": b"",
    "cut off": envelope(Doorbell(ADMIT, CANARY))[:-20],
    "binary": b"\xff\x00" + CANARY.encode(),
    "a number": b"7",
    "null": b"null",
    "text": json.dumps(CANARY).encode(),
    "a list": json.dumps([CANARY]).encode(),
    "deep": b"[" * 100_000,
    "no body": bell(body=None),
    "no headers": bell(headers=None),
    "no properties": bell(properties=None),
    "no delivery info": bell(properties__delivery_info=None),
    "no tag": bell(properties__delivery_tag=None),
    "no content type": bell(content_type=None),
    "headers that are a list": bell(headers=[CANARY]),
    "headers that are text": bell(headers=CANARY),
    "properties that are text": bell(properties=CANARY),
    "no task": bell(headers__task=None),
    "no id": bell(headers__id=None),
    "an unknown task": bell(headers__task=f"{CANARY}.task"),
    "a task that is a list": bell(headers__task=[CANARY]),
    "another content type": bell(**{"content-type": "application/x-python-serialize"}),
    "an unknown encoding": bell(**{"content-encoding": CANARY}),
    "a body that is no base64": bell(body="*" + CANARY),
    "a body that is no JSON": bell(body=b64encode(CANARY.encode()).decode()),
    "a body that is a number": bell(body=b64encode(b"7").decode()),
    "a body that is an object": bell(body=b64encode(json.dumps({"args": CANARY}).encode()).decode()),
    "no arguments": bell(body=arguments()),
    "too many arguments": bell(body=arguments(CANARY, CANARY)),
    "named arguments": bell(body=arguments("trustshare", **{CANARY: 1})),
    "an argument that is an object": bell(body=arguments({CANARY: 1})),
    "an argument that is null": bell(headers__task=DELIVER, body=arguments(None)),
    "a place that nobody knows": bell(body=arguments(CANARY)),
    "a time in the past": bell(headers__expires="2001-01-01T00:00:00"),
    "a time that is none": bell(headers__eta=CANARY),
    "10 MB": json.dumps(bell(body=b64encode(CANARY.encode() * 700_000).decode())).encode(),
    "10 MB of anything": b"x" * 10_000_000,
}


def raw(message: Any) -> bytes:
    return message if isinstance(message, bytes) else json.dumps(message).encode()


def dropped(gateway: Watched) -> int:
    return len(gateway.lines("dropped what is no doorbell"))


@pytest.fixture
def gateway(folder: Path, sink: Sink) -> Iterator[Watched]:
    with Watched(folder, target("all", sink.port), sink) as gateway:
        [before] = gateway.children("workers")
        yield gateway
        assert gateway.children("workers") == [before], "no worker has ended"
        assert gateway.lines("child died, starting it again") == []
        assert CANARY not in gateway.log.read_text(errors="replace")


def post(gateway: Watched, sink: Sink, count: int = 1) -> None:
    """Post events one after another, and wait for the last to arrive."""
    ids = [gateway.post("trustshare", body()).id for _ in range(count)]
    wait_for(lambda: sink.counts("all").keys() >= set(ids), "what was posted to arrive", within_s=60)


@pytest.mark.case(n=54)
def test_every_malformed_doorbell_is_dropped_and_survived(gateway: Watched, sink: Sink) -> None:
    for name, message in MALFORMED.items():
        before = gateway.redis.lpush(QUEUE, raw(message))
        assert before
        wait_for(lambda: gateway.redis.llen(QUEUE) == 0, f"{name!r} to be taken", within_s=60)
        post(gateway, sink)
    harmless = {"no delivery info", "an unknown encoding", "a place that nobody knows", "a time in the past"}
    expected = len(MALFORMED.keys() - harmless)
    wait_for(lambda: dropped(gateway) >= expected, "all to be logged", within_s=60)


@pytest.mark.case(n=54)
def test_a_thousand_malformed_doorbells_at_once_are_dropped_at_once(gateway: Watched, sink: Sink) -> None:
    messages = [raw(message) for message in MALFORMED.values() if len(raw(message)) < 10_000]
    gateway.redis.lpush(QUEUE, *messages * 30)
    post(gateway, sink, 5)
    wait_for(lambda: gateway.redis.llen(QUEUE) == 0, "the queue to be empty", within_s=60)
    wait_for(lambda: dropped(gateway) >= 1, "it to be logged", within_s=60)
    # Not one restart for each: the first takes all the others along.
    assert len([line for line in gateway.lines("dropped what is no doorbell") if "queued" in line]) < 100


FOREIGN: dict[str, Callable[[Any], object]] = {
    "a string": lambda redis: redis.set(QUEUE, CANARY),
    "a hash": lambda redis: redis.hset(QUEUE, CANARY, 1),
    "a set": lambda redis: redis.sadd(QUEUE, CANARY),
    "a stream": lambda redis: redis.xadd(QUEUE, {CANARY: 1}),
}


@pytest.mark.case(n=54)
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_queue_that_is_no_list_is_dropped_and_delivery_goes_on(
    kind: str, gateway: Watched, sink: Sink
) -> None:
    gateway.redis.delete(QUEUE)
    FOREIGN[kind](gateway.redis)
    post(gateway, sink, 3)
    wait_for(lambda: gateway.redis.type(QUEUE) in (b"none", b"list"), "it to be dropped", within_s=60)
    wait_for(lambda: dropped(gateway) >= 1, "it to be logged", within_s=60)


@pytest.mark.case(n=54)
def test_a_worker_starts_beside_a_queue_that_is_no_list(folder: Path, sink: Sink) -> None:
    with Watched(folder, target("all", sink.port), sink) as gateway:
        gateway.redis.delete(QUEUE)
        gateway.redis.set(QUEUE, uuid4().hex)
        gateway.kill("workers")
        post(gateway, sink, 2)
        assert len(gateway.lines("child died, starting it again")) == 1


def command(**changes: Any) -> bytes:
    """A command to all workers as Celery sends it, with some of its body changed."""
    return raw(
        broadcast(json.dumps({"method": "ping", "arguments": {}, "destination": None} | changes).encode())
    )


def broadcast(content: bytes, **changes: Any) -> dict[str, Any]:
    """A message to all workers, with its properties."""
    properties = {
        "delivery_mode": 1,
        "delivery_info": {"exchange": "headrace.pidbox", "routing_key": ""},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": uuid4().hex,
    }
    message = {"content-encoding": "utf-8", "content-type": "application/json", "headers": {}}
    return message | {"body": b64encode(content).decode(), "properties": properties} | changes


NO_COMMANDS: dict[str, bytes] = {
    "no JSON": CANARY.encode(),
    "empty": b"",
    "binary": b"\xff\x00" + CANARY.encode(),
    "a number": b"7",
    "null": b"null",
    "a list": json.dumps([CANARY]).encode(),
    "deep": b"[" * 100_000,
    "an empty object": b"{}",
    "no properties": raw(broadcast(CANARY.encode(), properties={})),
    "another content type": raw(
        broadcast(CANARY.encode(), **{"content-type": "application/x-python-serialize"})
    ),
    "a body that is no JSON": raw(broadcast(CANARY.encode())),
    "a body that is a number": raw(broadcast(b"7")),
    "a body that is a list": raw(broadcast(json.dumps([CANARY]).encode())),
    "headers that are text": raw(broadcast(b"{}", headers=CANARY)),
    "no method": raw(broadcast(b"{}")),
    "an unknown command": command(method=CANARY),
    "a command that is a list": command(method=[CANARY]),
    "an unknown argument": command(arguments={CANARY: CANARY}),
    "arguments that are a list": command(arguments=[CANARY]),
    "arguments that are text": command(arguments=CANARY),
    "a destination that is a number": command(destination=7),
    "a pattern that is none": command(pattern="(" + CANARY, matcher="pcre"),
    "an unknown matcher": command(pattern=CANARY, matcher=CANARY),
    "a field too many": command(**{CANARY: CANARY}),
    "a reply to nobody": command(ticket=CANARY, reply_to={"exchange": CANARY, "routing_key": CANARY}),
    "a reply to something else": command(ticket=CANARY, reply_to=CANARY),
    "10 MB of anything": b"x" * 10_000_000,
}


@pytest.mark.case(n=54)
def test_every_malformed_command_to_all_workers_is_dropped_and_survived(gateway: Watched, sink: Sink) -> None:
    socket = gateway.redis.connection_pool.connection_kwargs["path"]
    with Celery(broker=f"redis+socket://{socket}", set_as_current=False) as app:
        app.conf.control_exchange = QUEUE
        wait_for(lambda: app.control.ping(timeout=1), "the worker to hear commands", within_s=60)
        for name, message in NO_COMMANDS.items():
            assert gateway.redis.publish("/0.headrace.pidbox", message) == 1, f"after {name!r} nobody listens"
            # A worker whose connection is being made anew does not hear a command: it is said again.
            wait_for(lambda: app.control.ping(timeout=1), f"an answer after {name!r}", within_s=60)
        post(gateway, sink)


def test_a_doorbell_costs_redis_no_acknowledgement(gateway: Watched, sink: Sink) -> None:
    """Its queue is `no_ack`: nothing is noted when it is taken, so nothing is to be forgotten."""
    said: list[str] = []

    def listen() -> None:
        monitor: Any = gateway.redis.monitor()  # type: ignore[no-untyped-call]
        with monitor:
            for command in monitor.listen():
                said.append(command["command"])
                if "the-end" in said[-1]:
                    return

    listening = threading.Thread(target=listen, daemon=True)
    listening.start()
    gateway.redis.set("the-beginning", 1)
    wait_for(lambda: any("BRPOP" in command.upper() for command in said), "the worker to wait for doorbells")
    for _ in range(3):
        gateway.post("trustshare", body())
    sink.wait_for("all", 3)
    gateway.drain()
    gateway.redis.set("the-end", 1)
    listening.join(30)
    # What Kombu does now and then to bring back what was not acknowledged is another matter.
    assert [command for command in said if command.upper().startswith(("ZREM UNACKED", "HDEL UNACKED"))] == []
