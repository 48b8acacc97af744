"""Timelines of sources whose senders number their transactions each for itself, on a real Redis."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.config.check import parse_config
from shared.routing.reading import Reader
from shared.store.keys import Keys, transaction
from shared.store.transactions import Transactions

from .test_admit import SECRET, Desk, with_desk
from .test_cli import as_json, failed, ok, run, write

KEYS = Keys()

EVENT = {"type": "payment.received", "order": "1001", "amount": 500, "currency": "GBP"}
SHOPS = ("shop-a", "shop-b")


def shop(name: str) -> dict[str, Any]:
    return {
        **{"name": name, "provider": "standard-webhooks", "secrets": [SECRET]},
        **{"transaction": "body.order", "amount_minor": "body.amount", "currency": "body.currency"},
    }


def reader() -> Reader:
    target = {"name": "ledger", "url": "https://ledger.example.com/", "secret": SECRET}
    return Reader(parse_config({"sources": [shop(name) for name in SHOPS], "targets": [target]}))


async def sell(desk: Desk) -> list[str]:
    """Have both shops tell of their order 1001. Returns the two events' ids."""
    return [id for name in SHOPS for id in await desk.receive(EVENT, by=reader(), source=name)]


@pytest.mark.case(n=55)
def test_two_sources_with_one_transaction_id_have_a_timeline_each(redis_url: str) -> None:
    async def check(desk: Desk) -> None:
        ids = await sell(desk)
        transactions = Transactions(desk.store.client)
        for name, id in zip(SHOPS, ids, strict=True):
            found = await transactions.events("standard-webhooks", "1001", name)
            assert [(event.id, event.source) for event in found] == [(id, name)]
        assert await transactions.events("standard-webhooks", "1001", "shop-c") == []

    with_desk(redis_url, check)


@pytest.mark.case(n=38)
def test_events_that_stand_under_the_provider_are_still_found_by_their_source(redis_url: str) -> None:
    async def check(desk: Desk) -> None:
        [first, *_] = before = await sell(desk)
        for name in SHOPS:  # as they were indexed before sources counted
            index = KEYS.transaction_index(transaction("standard-webhooks", "1001", name))
            assert await desk.redis.zunionstore(
                old := KEYS.transaction_index(transaction("standard-webhooks", "1001")), [old, index]
            )
            await desk.redis.delete(index)
        [later] = await desk.receive(EVENT | {"amount": 7}, by=reader(), source="shop-a")
        found = await Transactions(desk.store.client).events("standard-webhooks", "1001", "shop-a")
        assert [event.id for event in found] == [first, later]
        assert before[1] not in [event.id for event in found]

    with_desk(redis_url, check)


@pytest.mark.case(n=55)
def test_the_timeline_of_a_source_adds_up_its_own_money_alone(tmp_path: Path, redis_url: str) -> None:
    async def fill(desk: Desk) -> None:
        await sell(desk)

    with_desk(redis_url, fill)
    sources = "".join(
        "[[sources]]\n" + "".join(f"{key} = {msgspec.json.encode(value).decode()}\n" for key, value in table)
        for table in (shop(name).items() for name in SHOPS)
    )
    config = write(tmp_path, redis_url, sources)
    text = ok(config, "transaction", "standard-webhooks", "1001", "--source", "shop-a")
    assert "received     5.00 GBP\n" in text
    assert "shop-b" not in text
    found = as_json(config, "transaction", "standard-webhooks", "1001", "--source", "shop-b")
    assert (found["source"], len(found["timeline"]["steps"])) == ("shop-b", 1)
    failed(run(config, "transaction", "standard-webhooks", "1001"), 2, "--source", "shop-a, shop-b")
    failed(run(config, "transaction", "trustap", "1001", "--source", "shop-a"), 2, "share")
