"""What was held back is sent through by hand, with the real gateway: after a fix, and where a copy was none."""

import json
from pathlib import Path

from shared.providers import samples
from tests.acceptance.gateway import SECRET, SOURCES, Gateway, target
from tests.acceptance.sink import Sink
from tests.waiting import wait_for

SAMPLE = samples("trustist")["PaymentStatusChanged-FAILED"]


def test_after_a_fix_of_the_configuration_what_was_quarantined_is_delivered_once(
    folder: Path, sink: Sink
) -> None:
    body = SAMPLE
    right = SOURCES + target("ledger", sink.port)
    # The yen has no smaller unit: 1049.10 of it cannot be.
    gateway = Gateway(folder, target("ledger", sink.port), sources=SOURCES.replace('"GBP"', '"JPY"'))
    with gateway:
        receipt = gateway.post("trustist", body).id
        wait_for(lambda: gateway.redis.zcard("hr:quarantine") == 1, "the request to be quarantined")
        [held] = gateway.json("quarantine")["quarantined"]
        assert held["id"] == receipt
        still = gateway.command("admit", receipt, "--yes")
        assert (still.returncode, gateway.redis.zcard("hr:quarantine")) == (1, 1)

    gateway.config.write_text(f'redis.url = "embedded"\ningress.port = {gateway.port}\n{right}')
    with gateway:
        dry = gateway.command("admit", "--all", "--dry-run")
        assert (dry.returncode, "trustist: 1" in dry.stdout, sink.of("ledger")) == (0, True, [])
        assert gateway.command("admit", "--all").returncode == 2, "it asks before it does it"
        assert gateway.command("admit", "--all", "--yes").returncode == 0
        [delivery] = sink.wait_for("ledger", 1)
        delivery.verify(SECRET)
        assert (delivery.id, delivery.event["type"]) == (receipt, "payment.failed")
        assert delivery.event["data"]["money"] == {"amount_minor": 104910, "currency": "GBP"}
        # Now that it is held, what comes again is a copy.
        gateway.post("trustist", body)
        wait_for(lambda: gateway.redis.zcard("hr:duplicates") == 1, "the copy to be recorded")
        wait_for(lambda: gateway.redis.zcard("hr:open") == 0, "the delivery to be done")
        assert gateway.command("admit", "--all", "--yes").stdout == "Nothing to admit.\n"
        assert gateway.json("quarantine")["count"] == 0
    assert len(sink.of("ledger")) == 1


def test_a_second_failure_that_looked_like_a_copy_is_delivered_once_it_is_admitted(
    folder: Path, sink: Sink
) -> None:
    """Trustist's second FAILED, after a retry, is the first one byte for byte."""
    body = SAMPLE
    transaction = json.loads(body)["paymentId"]
    with Gateway(folder, target("ledger", sink.port)) as gateway:
        first, second = (gateway.post("trustist", body).id for _ in range(2))
        wait_for(lambda: gateway.redis.zcard("hr:duplicates") == 1, "the copy to be recorded")
        differing = json.dumps(json.loads(body) | {"merchantId": "another"}).encode()
        other = gateway.post("trustist", differing).id
        wait_for(lambda: gateway.redis.zcard("hr:duplicates") == 2, "the other copy to be recorded")
        sink.wait_for("ledger", 1)
        wait_for(
            lambda: any(line.get("differing") for line in gateway.lines("admitted")), "the log to say so"
        )
        [warned] = [line for line in gateway.lines("admitted") if line.get("differing")]
        assert (warned["level"], warned["differing"], warned["duplicate"]) == ("warning", 1, 1)
        copies = gateway.json("events", "--duplicates")["duplicates"]
        assert {copy["id"]: copy["identical"] for copy in copies} == {second: True, other: False}

        for _ in range(2):
            assert gateway.command("admit", second, "--yes").returncode == 0
        deliveries = sink.wait_for("ledger", 2)
        wait_for(lambda: gateway.redis.zcard("hr:open") == 0, "the deliveries to be done")
        assert [delivery.id for delivery in deliveries] == [first, second]
        assert deliveries[0].event["data"] == deliveries[1].event["data"]
        timeline = gateway.json("transaction", "trustist", transaction)["timeline"]
        assert [(step["event"]["id"], step["event"]["copies"]) for step in timeline["steps"]] == [
            (first, 1), (second, 0)
        ]  # fmt: skip
        assert (timeline["status"], timeline["final"]) == ("failed", False)
    assert len(sink.of("ledger")) == 2
