"""What a worker that stops does with what it claims at that moment, on a real Redis."""

import asyncio
from collections.abc import Mapping, Sequence

from shared.http import Egress
from shared.settings import Config, Target
from shared.store.bells import Bells
from shared.store.due import BreakerPolicy, ClaimRequest, DueSets, RoundTrip, Settlement
from shared.values import Private, Secrets
from tests.acceptance.gateway import SECRET
from tests.acceptance.sink import Sink
from tests.integration.store import Store, with_store
from workers.deliver import Deliverer


class SlowClaims(DueSets):
    """Redis takes long to say what was claimed."""

    asked, answer = asyncio.Event(), asyncio.Event()

    async def settle_and_claim(
        self,
        batch: Sequence[Settlement],
        policies: Mapping[str, BreakerPolicy],
        requests: Sequence[ClaimRequest],
    ) -> RoundTrip:
        brought = await super().settle_and_claim(batch, policies, requests)
        self.asked.set()
        await self.answer.wait()
        return brought


def test_what_is_claimed_after_the_grace_time_is_handed_back_and_charged_to_nobody(
    redis_url: str, sink: Sink
) -> None:
    target = Target(
        name="one",
        url=f"http://127.0.0.1:{sink.port}/one",
        secret=Secrets.parse(SECRET),
        allow_private=Private.parse(True),
    )

    async def check(store: Store) -> None:
        id = await store.event(b"x", "one")
        due, egress = SlowClaims(store.client), Egress()
        deliverer = Deliverer(Config(targets=(target,)), due, Bells(store.client), egress)
        deliverer.kick("one")
        await due.asked.wait()
        await deliverer.drain(0.01)
        await egress.close()
        due.answer.set()
        for _ in range(500):
            if await store.redis.zscore("hr:due:one", id):
                break
            await asyncio.sleep(0.01)
        assert await store.redis.zcard("hr:leased:one") == 0
        assert await store.redis.hget(f"hr:event:{id}", "failed:one") is None
        assert await store.redis.exists(f"hr:attempts:{id}") == 0
        assert sink.of("one") == []

    with_store(redis_url, check)
