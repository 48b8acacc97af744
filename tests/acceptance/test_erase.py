"""`headrace erase` of the real gateway: afterwards no file of its data folder has the person's name."""

import json
import subprocess
from functools import partial
from pathlib import Path

from tests.acceptance.gateway import HEADRACE, SOURCES, Gateway, clean_env, target
from tests.acceptance.sink import Sink
from tests.waiting import wait_for

NAME = "zebrafinch.buyer@example.com"
WORD = b"zebrafinch"
ARCHIVE = 'archive.url = "embedded"\nretention.hot = "1s"\n'


def holding(folder: Path) -> list[str]:
    """Return the files below a folder that have the word."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path.name for path in files if WORD in path.read_bytes()]


def test_no_file_has_the_name_of_who_was_erased(folder: Path, sink: Sink) -> None:
    sink.answers["fails"] = lambda *_: 500
    retry = "{ initial = '0.1s', factor = 1.0, max = '0.1s', attempts = 1 }"
    targets = target("all", sink.port) + target("fails", sink.port, retry=retry, events='["dispute.*"]')
    with Gateway(folder, targets, sources=ARCHIVE + SOURCES) as gateway:
        paid = {"type": "payment_received", "token": "t1", "from": NAME, "amount": 1, "currency": "GBP"}
        archived = gateway.post("trustshare", json.dumps(paid | {"paymentToken": "p1"}).encode()).id
        gateway.post("trustshare", json.dumps(paid | {"paymentToken": "p1", "note": f"to {NAME}"}).encode())
        dead = gateway.post(
            "trustshare", json.dumps({"type": "dispute_raised", "token": "t2", "to": NAME}).encode()
        ).id
        gateway.post("trustist", f"not JSON, of {NAME}".encode())
        wait_for(lambda: gateway.redis.zcard("hr:dead:fails"), "a dead letter")
        wait_for(lambda: gateway.redis.zcard("hr:quarantine"), "the quarantine")
        wait_for(lambda: not gateway.redis.exists(f"hr:event:{archived}"), "the first to be archived")
        wait_for(lambda: gateway.redis.zcard("hr:duplicates") == 0, "its copy to be archived")
        before = holding(folder)
        assert [name for name in before if name.startswith("appendonly.aof")]
        assert [name for name in before if name.startswith("archive.db")]

        planned = gateway.json("erase", "--party", NAME, "--dry-run")["planned"]
        assert planned == {
            "events_in_redis": 1,
            "waiting": 0,
            "events_in_archive": 1,
            "dead_letters_on_disk": 0,
            "copies": 1,
            "in_quarantine": 1,
            "in_inboxes": 0,
            "held": 0,
        }
        done = gateway.command("erase", "--party", NAME.upper(), "--yes")
        assert done.returncode == 0, done.stderr
        assert holding(folder) == []
        for id in (archived, dead):
            shown = gateway.json("events", id, "--payload")
            assert shown["payload"]["data"]["original"] == {"erased": True}
            assert shown["payload"]["data"]["parties"] == {}
        again = gateway.here("erase", "--party", NAME)
        assert again.output.startswith("Nothing is kept of this party.\n")
        assert {entry["action"] for entry in gateway.json("audit")["audit"]} == {"erase"}
    assert holding(folder) == [], "nor what is written at the end"


def begun(gateway: Gateway, times: int) -> bool:
    """Tell whether an erasure has begun so often: its entry in the audit comes first."""
    return len(gateway.json("audit", "--limit", "100")["audit"]) >= times


def test_an_erasure_that_is_killed_is_finished_by_the_next_one(folder: Path, sink: Sink) -> None:
    with Gateway(folder, target("all", sink.port), sources=ARCHIVE + SOURCES) as gateway:
        for number in range(60):
            paid = {"type": "payment_received", "token": "t", "paymentToken": f"p{number}", "from": NAME}
            gateway.post("trustshare", json.dumps(paid | {"amount": number, "currency": "GBP"}).encode())
            if number == 30:
                wait_for(lambda: not gateway.redis.zcard("hr:finished"), "the first half to be archived")
        sink.wait_for("all", 60)
        wait_for(lambda: not gateway.redis.zcard("hr:open"), "all to be delivered")
        argv = [HEADRACE, "erase", "--config", str(gateway.config), "--party", NAME, "--yes"]
        for killed in range(1, 5):
            process = subprocess.Popen(
                argv, env=clean_env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            wait_for(partial(begun, gateway, killed), "an erasure to begin")
            process.kill()
            process.wait()
        done = subprocess.run(argv, env=clean_env(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert holding(folder) == []
        assert len(gateway.json("events", "--limit", "100")["events"]) == 60
