"""`python -m tests.bench.posting PORT COUNT CONCURRENCY LOOP`: what delivery is held against.

One aiohttp process that only POSTs: the bodies that Headrace would deliver, as many at once. It signs nothing,
keeps nothing, logs nothing. LOOP is `asyncio` (aiohttp as it comes) or `uvloop`. Prints how many seconds it took.
"""

import asyncio
import sys
from time import perf_counter

import aiohttp
import uvloop

from tests.bench.events import composed

HEADERS = {"content-type": "application/cloudevents+json", "user-agent": "aiohttp"}


async def main(port: int, count: int, concurrency: int) -> None:
    bodies = iter([composed(number) for number in range(count)])
    connector = aiohttp.TCPConnector(limit=concurrency)
    url = f"http://127.0.0.1:{port}/hooks"

    async def post_all() -> None:
        for body in bodies:
            async with session.post(url, data=body, headers=HEADERS) as answer:
                await answer.read()
                assert answer.status == 200

    async with aiohttp.ClientSession(connector=connector) as session:
        started = perf_counter()
        await asyncio.gather(*(post_all() for _ in range(concurrency)))
        print(perf_counter() - started)


if __name__ == "__main__":
    run = uvloop.run if sys.argv[4] == "uvloop" else asyncio.run
    run(main(*map(int, sys.argv[1:4])))
