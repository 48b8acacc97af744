"""An ordered target gets each transaction's events strictly one after another, under kills and many workers."""

import json
import random
import threading
import time
from collections import defaultdict
from pathlib import Path

from tests.acceptance.gateway import Gateway, target
from tests.acceptance.sink import Delivery, Sink
from tests.waiting import wait_for

TRANSACTIONS, EACH = 12, 15


def test_order_holds_under_kills_failures_and_many_workers(folder: Path, sink: Sink) -> None:
    chaos = random.Random(20261121)
    in_flight: defaultdict[str, int] = defaultdict(int)
    together: list[str] = []
    lock = threading.Lock()

    def slowly(delivery: Delivery, before: int) -> int:
        transaction = delivery.event["data"]["transaction_id"]
        with lock:
            in_flight[transaction] += 1
            if in_flight[transaction] > 1:
                together.append(transaction)
        time.sleep(0.02)
        with lock:
            in_flight[transaction] -= 1
        # Every fifth event fails once: it holds back its own transaction, and no other.
        return (
            500
            if before == 0 and int(delivery.event["data"]["payment_id"].partition("-")[2]) % 5 == 0
            else 200
        )

    sink.answers["ordered"] = slowly
    retry = "{ initial = '0.2s', factor = 1.0, max = '0.2s', attempts = 20 }"
    targets = target(
        "ordered",
        sink.port,
        ordering='"transaction"',
        retry=retry,
        timeout='"2s"',
        breaker="{ failures = 1000 }",
    ) + target("plain", sink.port)
    with Gateway(folder, targets, workers=3) as gateway:
        accepted: defaultdict[str, list[str]] = defaultdict(list)

        def provider(names: list[str]) -> None:
            for number in range(EACH):
                for name in names:
                    body = {"type": "payment_received", "token": name, "paymentToken": f"{name}-{number}"}
                    amount = {"amount": 100, "currency": "gbp"}
                    accepted[name].append(gateway.post("trustshare", json.dumps(body | amount).encode()).id)

        names = [f"t{number}" for number in range(TRANSACTIONS)]
        providers = [threading.Thread(target=provider, args=(names[start::3],)) for start in range(3)]
        for thread in providers:
            thread.start()
        for _ in range(4):
            time.sleep(chaos.uniform(0.5, 1.0))
            gateway.kill("workers")
        for thread in providers:
            thread.join()
        everything = {id for ids in accepted.values() for id in ids}
        assert len(everything) == TRANSACTIONS * EACH
        wait_for(lambda: sink.counts("ordered").keys() == everything, "all to arrive in order", within_s=120)
        wait_for(lambda: not gateway.redis.zcard("hr:open"), "all to be finished", within_s=60)
        assert gateway.redis.keys("hr:lane:*") == []

    assert together == [], "never two of one transaction in flight"
    arrived: defaultdict[str, list[str]] = defaultdict(list)
    for delivery in sink.of("ordered"):
        arrived[delivery.event["data"]["transaction_id"]].append(delivery.id)
    for name, ids in accepted.items():
        # Repeats of the one in line are retries; nothing older may come after something newer.
        in_order = [
            id for number, id in enumerate(arrived[name]) if number == 0 or arrived[name][number - 1] != id
        ]
        assert in_order == ids, name
