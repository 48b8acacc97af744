"""Each target and each source has its share of memory, with the real gateway and a small Redis."""

import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared.event.ids import event_id
from shared.providers import samples
from tests.acceptance.gateway import SOURCES, Gateway, target
from tests.acceptance.sink import Sink
from tests.conftest import MEMORY, RedisServer
from tests.waiting import wait_for

SAMPLE = samples("trustist")["PaymentStatusChanged-FAILED"]
MAXMEMORY_MB = 40
PAD = "x" * 32_000  # few large ones fill as much as many small ones, sooner
EVENTS, BATCH = 1600, 40
QUICK = "{ initial = '0.1s', factor = 1.0, attempts = 2 }"
PATIENT = "{ failures = 100000 }"


@pytest.fixture
def small() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="hr-", dir=MEMORY) as folder:
        # Redis 6.2 takes another 10 MiB at once while it rewrites its log: a sixth of so little.
        rewrites = ("--auto-aof-rewrite-percentage", "0")
        server = RedisServer(Path(folder), "--maxmemory", f"{MAXMEMORY_MB}mb", *rewrites)
        server.start()
        try:
            yield server
        finally:
            server.kill()


def gateway_of(folder: Path, small: RedisServer, targets: str, **options: Any) -> Gateway:
    gateway = Gateway(folder, targets, redis_url=small.url, **options)
    gateway.redis = small.client()
    return gateway


def paid(number: int) -> bytes:
    body = {"type": "payment_received", "token": f"t{number}", "paymentToken": f"p{number}", "note": PAD}
    return json.dumps(body).encode()


def send(gateway: Gateway, numbers: range) -> set[str]:
    """Send events from the healthy source, each until it is answered 200: a busy machine makes Redis late."""
    with ThreadPoolExecutor(4) as pool:
        ids = {answer.id for answer in pool.map(lambda n: gateway.post("trustshare", paid(n)), numbers)}
    # But it is never refused because another has taken its room.
    assert not [line for line in gateway.lines("refusing") if "full" in line["reason"]]
    assert not [line for line in gateway.lines("refusing a source") if line["source"] == "trustshare"]
    return ids


def used(gateway: Gateway) -> float:
    memory: Any = gateway.redis.info("memory")
    return float(memory["used_memory"] / memory["maxmemory"])


def firsts(gateway: Gateway, ids: set[str]) -> set[str]:
    """Return the events of receipts: what was sent again, as Redis was late, may be a copy."""
    pipe = gateway.redis.pipeline(transaction=False)
    for id in ids:
        pipe.hget(f"hr:duplicate:{id}", "of")
    return {of.decode() if of else id for id, of in zip(ids, pipe.execute(), strict=True)}


def has_all(gateway: Gateway, sink: Sink, name: str, ids: set[str]) -> bool:
    got = set(sink.counts(name))
    return got >= firsts(gateway, ids - got)


def delivered(gateway: Gateway, name: str) -> bool:
    return not gateway.redis.exists(f"hr:due:{name}", f"hr:leased:{name}")


def dead_letters(gateway: Gateway, name: str) -> list[str]:
    found = gateway.json("dead-letters", "--target", name, "--limit", "100000")
    ids = [letter["id"] for letter in found["dead_letters"]]
    assert len(set(ids)) == len(ids), "each is shown once"
    return ids


@pytest.mark.case(n=47)
@pytest.mark.timeout(400)
def test_targets_that_are_down_fill_their_share_and_the_disk_and_no_other_notices(
    folder: Path, sink: Sink, small: RedisServer
) -> None:
    """Several times what Redis holds goes through; `dying` gives up soon, `waiting` never does by itself."""
    sink.answers |= {"dying": lambda *_: 500, "waiting": lambda *_: 500}
    targets = (
        target("works", sink.port)
        + target("dying", sink.port, retry=QUICK, breaker=PATIENT)
        + target("waiting", sink.port)
    )
    with gateway_of(folder, small, targets, workers=2) as gateway:
        sent: set[str] = set()
        for start in range(0, EVENTS, BATCH):
            sent |= send(gateway, range(start, start + BATCH))
            if start % (5 * BATCH) == 0:
                gateway.kill("workers")  # whatever it was about to do: moving letters, too
            wait_for(partial(has_all, gateway, sink, "works", sent), "works to have got all", within_s=60)
            # A batch fills some hundredths of so small a Redis; whatever a machine's speed, room is made again.
            wait_for(lambda: used(gateway) < 0.7, "room for the next", within_s=60)
        sent = firsts(gateway, sent)
        assert set(sink.counts("works")) == sent
        assert len(sent) * len(PAD) > MAXMEMORY_MB * 2**20

        def gone_or_dead() -> bool:
            counts = gateway.json("dead-letters")["counts"]
            rows = {row["name"]: row for row in gateway.json("targets")["targets"]}
            return bool(
                counts["dying"] == len(sent)
                and counts["waiting"] + rows["waiting"]["backlog"] + rows["waiting"]["in_flight"] == len(sent)
            )

        wait_for(gone_or_dead, "what is dead to be counted", within_s=60)
        assert set(dead_letters(gateway, "dying")) == sent
        rows = {row["name"]: row for row in gateway.json("targets")["targets"]}
        assert rows["dying"]["on_disk"] > 0
        assert rows["waiting"]["on_disk"] > 0

        def said() -> set[str]:
            past = gateway.lines("a target is past its share of memory: its dead letters go to disk")
            return {line["target"] for line in past}

        wait_for(lambda: said() == {"dying", "waiting"}, "both to be logged")
        [letter] = gateway.json("dead-letters", "--target", "waiting", "--limit", "1")["dead_letters"]
        assert letter["why"]["word"] == "share"

        # And to the end: all of them are replayed, and each comes.
        sink.answers.clear()
        sink.begin_anew()
        for name in ("dying", "waiting"):
            gateway.command(
                "targets", "resume", name
            )  # not in some minutes, when its breaker would ask again
            # If workers are slow, what came back may fill the share of so small a Redis, and be dead once more.
            for _ in range(10):
                again = gateway.command("replay", "--dead-letters", name, "--yes", timeout_s=200)
                assert again.returncode == 0, again.stderr
                wait_for(partial(delivered, gateway, name), f"{name} to get all", within_s=120)
                if not dead_letters(gateway, name):
                    break
            assert dead_letters(gateway, name) == []
        assert set(sink.counts("dying")) == sent
        assert set(sink.counts("waiting")) == sent
    assert os.stat(folder / ".headrace" / "dead-letters.db").st_mode & 0o077 == 0


def unreadable(number: int) -> bytes:
    return b"%d is no JSON: " % number + PAD.encode()


@pytest.mark.case(n=47)
@pytest.mark.timeout(400)
def test_a_source_whose_requests_nobody_reads_is_refused_alone_until_they_are_discarded(
    folder: Path, sink: Sink, small: RedisServer
) -> None:
    with gateway_of(folder, small, target("works", sink.port)) as gateway:
        sent: set[str] = set()
        noise: list[int] = []
        while not gateway.lines("refusing a source"):
            with ThreadPoolExecutor(4) as pool:
                numbers = range(len(noise), len(noise) + 50)
                answers = list(
                    pool.map(lambda n: gateway.post("trustist", unreadable(n), once=True), numbers)
                )
            noise += [answer.status for answer in answers]
            sent |= send(gateway, range(len(sent), len(sent) + 5))
            assert len(noise) * len(PAD) < MAXMEMORY_MB * 2**20, "it takes more than all memory"
            wait_for(lambda: gateway.redis.xlen("hr:inbox:trustist") == 0, "all to be read", within_s=60)
            if used(gateway) > 0.27:  # below a quarter nobody is measured
                wait_for_verdict(gateway)
        kept = gateway.redis.zcard("hr:quarantine")
        assert kept >= noise.count(200)
        assert kept * len(PAD) < 0.5 * MAXMEMORY_MB * 2**20
        [line] = gateway.lines("refusing a source")
        assert line["source"] == "trustist"
        assert "past 25%" in line["reason"]
        ready = gateway.request("GET", "/readyz")
        assert (ready.status, json.loads(ready.body)["full_inboxes"]) == (200, 1)
        assert "source trustist is refused" in gateway.command("check").stdout
        # All others go on, for as long as one likes.
        for _ in range(3):
            sent |= send(gateway, range(len(sent), len(sent) + 50))
            wait_for_verdict(gateway)
        assert gateway.post("trustist", unreadable(10**9), once=True).status == 503
        wait_for(partial(has_all, gateway, sink, "works", sent), "works to have got all", within_s=60)

        assert gateway.json("quarantine", "--limit", "1")["count"] == kept
        asked = gateway.command("quarantine", "discard", "--source", "trustist")
        assert asked.returncode == 2, "it asks before it does it"
        done = gateway.command("quarantine", "discard", "--source", "trustist", "--yes")
        assert (done.returncode, f"Discarded {kept:,} requests" in done.stdout) == (0, True)
        wait_for(
            lambda: gateway.post("trustist", unreadable(10**9), once=True).status == 200,
            "the source to be taken from again",
            within_s=60,
        )


def has_new_verdict(gateway: Gateway, before: Any) -> bool:
    return bool(gateway.redis.hvals("hr:shares") not in (before, []))


def wait_for_verdict(gateway: Gateway) -> None:
    """Wait until a worker has measured, and ingress has looked, after this moment."""
    for _ in range(2):
        before = gateway.redis.hvals("hr:shares")
        wait_for(partial(has_new_verdict, gateway, before), "a verdict", within_s=60)


@pytest.mark.case(n=50)
@pytest.mark.timeout(200)
def test_what_a_source_left_in_its_inbox_is_said_and_admitted_or_quarantined_by_hand(
    folder: Path, sink: Sink, small: RedisServer
) -> None:
    """As an earlier version left it: a stream that is on no record."""
    inbox = "hr:inbox:trustshare"
    body = json.dumps({"type": "payment_received", "token": "t", "paymentToken": "p"}).encode()
    without = SOURCES.partition("[[sources]]")[2].partition("[[sources]]")[2]
    with small.client() as client:
        entries: list[Any] = [
            client.xadd(inbox, {"body": body.replace(b'"p"', b'"p%d"' % n)}) for n in range(3)
        ]
    receipts = [event_id("trustshare", entry.decode()) for entry in entries]
    gateway = gateway_of(folder, small, target("works", sink.port), sources="[[sources]]" + without)
    with gateway:
        wait_for(
            lambda: gateway.lines("requests wait in the inbox of a source that is not configured"),
            "the log to say so",
            within_s=60,
        )
        wait_for(
            lambda: json.loads(gateway.request("GET", "/readyz").body).get("stranded_inboxes") == 1,
            "readyz to count it",
            within_s=60,
        )
        note = "3 requests wait in the inbox of trustshare, which is not configured"
        assert note in gateway.command("check").stdout
        assert note in gateway.command("quarantine").stdout
        assert gateway.json("quarantine")["stranded"] == {"trustshare": 3}
        shown = gateway.json("events", receipts[0])
        assert (shown["state"], shown["source"]) == ("inbox", "trustshare")
        refused = gateway.command("admit", receipts[0], "--yes")
        assert (refused.returncode, "not configured" in refused.stderr) == (1, True)
        nobody = gateway.command("quarantine", "inbox", "nobody", "--yes")
        assert (nobody.returncode, "no source is named 'nobody'" in nobody.stderr) == (2, True)

        done = gateway.command("quarantine", "inbox", "trustshare", "--yes")
        assert (done.returncode, "Put 3 requests into quarantine" in done.stdout) == (0, True), done.stderr
        assert gateway.command("quarantine", "inbox", "trustshare", "--yes").stdout == (
            "0 requests in the inbox of trustshare.\n"
        )
        held = gateway.json("quarantine")["quarantined"]
        assert {(each["id"], each["code"]) for each in held} == {(id, "no-source") for id in receipts}
        late: Any = gateway.redis.xadd(inbox, {"body": body})
    # With the source back, what waits is admitted by itself, and what is in quarantine by hand.
    gateway.config.write_text(
        f'redis.url = "{small.url}"\ningress.port = {gateway.port}\n{SOURCES}{target("works", sink.port)}'
    )
    with gateway:
        sink.wait_for("works", 1, within_s=60)
        assert gateway.command("admit", "--all", "--source", "trustshare", "--yes").returncode == 0
        sink.wait_for("works", 4, within_s=60)
        assert set(sink.counts("works")) == {*receipts, event_id("trustshare", late.decode())}
        assert gateway.json("quarantine")["stranded"] == {}


@pytest.mark.case(n=47)
@pytest.mark.timeout(400)
def test_a_disk_that_takes_nothing_leaves_all_in_redis_and_refuses_only_who_sends_to_such_targets_alone(
    folder: Path, sink: Sink, small: RedisServer
) -> None:
    sink.answers |= {"down": lambda *_: 500}
    targets = target("down", sink.port, retry=QUICK, breaker=PATIENT, sources='["trustshare"]')
    targets += target("works", sink.port, sources='["trustist"]')
    in_the_way = folder / "in-the-way"
    in_the_way.write_text("a file, where a folder should be")
    archive = f'\n[archive]\ndead_letters = "sqlite:///{in_the_way}/dead-letters.db"\n'
    sent: set[str] = set()
    with gateway_of(folder, small, targets + archive) as gateway:
        for start in range(0, EVENTS, BATCH):
            with ThreadPoolExecutor(4) as pool:
                answers = list(
                    pool.map(
                        lambda n: gateway.post("trustshare", paid(n), once=True), range(start, start + BATCH)
                    )
                )
            sent |= {answer.id for answer in answers if answer.status == 200}
            # A full inbox is another reason to refuse a source.
            wait_for(lambda: not gateway.redis.xlen("hr:inbox:trustshare"), "all to be admitted", within_s=60)
            if gateway.lines("refusing a source"):
                break
            if used(gateway) > 0.27:
                wait_for_verdict(gateway)
        wait_for(lambda: gateway.lines("refusing a source"), "it to be logged")
        assert [line["source"] for line in gateway.lines("refusing a source")] == ["trustshare"]
        wait_for(
            lambda: len(gateway.lines("dead letters cannot be moved to the disk: they stay in Redis")) == 1,
            "the worker's log to say so",
        )
        assert "dead letters cannot go to the disk" in gateway.command("check").stdout
        assert gateway.post("trustist", SAMPLE).status == 200
        sink.wait_for("works", 1, within_s=60)
        assert gateway.post("trustshare", paid(10**9), once=True).status == 503

        in_the_way.unlink()
        wait_for(
            lambda: gateway.post("trustshare", paid(10**9), once=True).status == 200,
            "the source to be taken from again",
            within_s=60,
        )
        wait_for(partial(delivered, gateway, "down"), "all to have died", within_s=60)
        assert set(dead_letters(gateway, "down")) >= sent
        wait_for(lambda: gateway.lines("dead letters can be moved to the disk again"), "it to be logged")

        assert gateway.command("dead-letters", "discard", "--target", "down").returncode == 2, "it asks first"
        assert gateway.command("dead-letters", "discard", "--target", "nobody", "--yes").returncode == 2
        count = gateway.json("dead-letters", "discard", "--target", "down", "--dry-run")["planned"]["down"]
        assert count >= len(sent)
        done = gateway.json("dead-letters", "discard", "--target", "down", "--reason", "HTTP 500", "--yes")
        assert done["discarded"] == {"down": count}
        assert dead_letters(gateway, "down") == []


@pytest.mark.case(n=47)
@pytest.mark.timeout(400)
def test_if_all_together_fill_redis_the_one_that_takes_the_most_makes_room(
    folder: Path, sink: Sink, small: RedisServer
) -> None:
    """With shares that come to more than there is, nobody is past its own before Redis is full."""
    sink.answers |= {"dying": lambda *_: 500}
    targets = target("works", sink.port) + target(
        "dying", sink.port, retry=QUICK, breaker=PATIENT, share="0.8"
    )
    with gateway_of(folder, small, targets) as gateway:
        sent: set[str] = set()
        while len(sent) * len(PAD) < 0.9 * MAXMEMORY_MB * 2**20:
            # A few at once: between 76.5 % here and 80 %, at which ingress refuses, they have to fit.
            sent |= send(gateway, range(len(sent), len(sent) + 8))
            wait_for(partial(has_all, gateway, sink, "works", sent), "works to have got all", within_s=60)
            wait_for(lambda: used(gateway) < 0.765, "room for the next", within_s=60)
        wait_for(partial(delivered, gateway, "dying"), "all to have died", within_s=60)
        sent = firsts(gateway, sent)
        assert set(dead_letters(gateway, "dying")) == sent
        assert gateway.json("targets")["targets"][1]["on_disk"] > 0
