"""Planted canaries appear nowhere but in the payload: no log, no Celery message, no listing, no error."""

import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.acceptance.canaries import CANARIES, CARD, EMAIL, NOTE, WRONG
from tests.acceptance.gateway import SECRET, TRUUST_TOKEN, Gateway, target
from tests.acceptance.sink import Sink
from tests.waiting import wait_for

ANSWER = "seen"  # what the sink answers: a target's answer is a payload too

SHARE = {"type": "dispute_raised", "from": EMAIL, "to": EMAIL, "token": "t1", "description": f"{NOTE} {CARD}"}


def test_no_canary_leaves_its_payload(folder: Path, sink: Sink) -> None:
    retry = "{ initial = '0.1s', factor = 1.0, max = '0.1s', attempts = 2 }"
    sink.answers["fails"] = lambda *_: 500
    targets = (
        target("all", sink.port)
        + target("fails", sink.port, retry=retry)
        # Nobody listens there: a connection error, whose message must not show the URL's path.
        + target("gone", 1, retry=retry, url=f'"http://127.0.0.1:1/{NOTE}?key={NOTE}"')
    )
    with Gateway(folder, targets) as gateway:
        worker = gateway.children("workers")[0]
        os.kill(worker, signal.SIGSTOP)  # so that the doorbells can be read
        body = json.dumps(SHARE).encode()
        id = gateway.post("trustshare", body).id
        gateway.post("trustshare", body)
        gateway.post("trustshare", json.dumps(SHARE | {"description": CARD[::-1]}).encode())
        gateway.post("truust", f'{{"escrow":{{"id":"1","amount":"{NOTE}","name":"{CARD}"}}}}'.encode())
        gateway.post("trustap", f'{{"code":"basic_tx.paid","target_preview":{{"price":"{EMAIL}"}}}}'.encode())
        gateway.post("trustist", f"not JSON {EMAIL} {CARD}".encode())
        gateway.request("POST", "/webhooks/trustshare", body, {"x-trustshare-secret": WRONG})
        gateway.request("POST", "/webhooks/trustap", body, {"authorization": f"Basic {WRONG}"})
        gateway.request("POST", f"/webhooks/truust/{WRONG}", body)
        gateway.request("POST", f"/webhooks/{TRUUST_TOKEN}", body)  # a URL put together wrongly
        gateway.request("GET", f"/webhooks/truust/{TRUUST_TOKEN}", body)
        doorbells: list[Any] = gateway.redis.lrange("headrace", 0, -1)
        messages = b"".join(doorbells)
        # One of the four may lie in the socket of the stopped worker already.
        assert messages.count(b"headrace.admit") >= 3
        os.kill(worker, signal.SIGCONT)

        wait_for(lambda: gateway.redis.zcard("hr:dead:fails"), "a dead letter of fails")
        wait_for(lambda: gateway.redis.zcard("hr:dead:gone"), "a dead letter of gone")
        wait_for(lambda: gateway.redis.zcard("hr:quarantine") >= 2, "the quarantine")
        sink.wait_for("all", 1)
        gateway.kill("ingress")  # and what a death and a stopped Redis make processes say
        gateway.kill("workers")
        gateway.kill("redis-server")
        wait_for(gateway.ready, "the gateway to be ready again", within_s=30)
        listings = [
            *(["events"], ["events", id], ["events", "--duplicates"], ["deliveries", id], ["dead-letters"]),
            *(["quarantine"], ["check"], ["erase", "--party", EMAIL, "--dry-run"]),
        ]
        said = [
            output
            for arguments in listings
            for extra in ([], ["--json"])
            for done in [gateway.here(*arguments, *extra)]
            for output in (done.stdout, done.stderr)
        ]
        assert EMAIL in gateway.command("events", id, "--payload").stdout, "asked for, it is shown"
        secrets = gateway.command("check", "--show-secrets").stdout
        assert TRUUST_TOKEN in secrets
        assert SECRET not in secrets
    log = gateway.log.read_text(errors="replace")
    assert '"event":"delivery"' in log
    assert '"event":"request"' in log
    for canary in CANARIES:
        assert canary not in log, canary
        assert canary.encode() not in messages, canary
        assert not [text for text in said if canary in text], canary
    assert ANSWER not in log
