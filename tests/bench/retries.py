"""What waits for its retry, few and a million: time to claim a batch, time of a sweep, and memory."""

import time
from time import perf_counter

from shared.config.file import read_config
from shared.http import Egress
from shared.store.bells import Bells
from shared.store.client import RedisClient
from shared.store.inbox import Inbox
from shared.store.lanes import Lanes
from shared.store.targets import Targets
from shared.store.upkeep import Upkeep
from tests.acceptance.gateway import free_port, target
from tests.bench.events import admit, body, with_client
from tests.bench.report import Chart, Figure, Goal, Result
from tests.bench.run import Run
from tests.bench.stack import Stack, stack
from tests.bench.traffic import percentile
from tests.bench.waiting import BATCH, TARGET, Waiting
from tests.integration.due import Due
from workers.deliver import Deliverer
from workers.sweep import Sweeper

FEW = 1000
MANY = (100_000, 1_000_000)
CLAIMS = 60
SWEEPS = 20
EVENTS = 10_000
MORE_TARGETS = 10
WATCHED_S = 8.0


def main(run: Run) -> Result:
    """Measure one Redis with few and one with many in turns; the latter grows."""
    result = Result(
        "retries", f"batches of {BATCH}, one target; Redis alone, without its log; times by its SLOWLOG"
    )
    with stack(run.folder) as one, stack(run.folder) as other:
        for it in (one, other):
            it.redis.config_set("appendonly", "no")
            it.configure(target(TARGET, free_port()), more="redis.require_aof = false\n")
        add_bytes(result, run, one)
        few, many = Waiting(one), Waiting(other)
        few.grow(FEW)
        claims: list[tuple[float, float]] = []
        sizes: list[tuple[float, float]] = [(FEW, few.bytes_each())]
        for size in MANY[: 1 if run.short else None]:
            for upto in run.each(range(size // 20, size + 1, size // 20), f"filling up to {size:,}"):
                many.grow(upto)
            sizes.append((size, many.bytes_each()))
            result.add(f"Redis memory each, {size:,} waiting", "bytes", [sizes[-1][1]])
            for figure, waiting in add_times(result, run, few, one, many, other):
                claims += [(waiting, figure.median)] if waiting > FEW or not claims else []
        add_worker_memory(result, run, one, other, many.count)
    result.charts += [
        Chart(f"Claiming a batch of {BATCH}", "deliveries waiting", "ms", {"claim": claims}, log_x=True),
        Chart(
            "Redis memory", "deliveries waiting", "bytes each", {"event, attempt and body": sizes}, log_x=True
        ),
    ]
    return result


def add_times(
    result: Result, run: Run, few: Waiting, one: Stack, many: Waiting, other: Stack
) -> list[tuple[Figure, int]]:
    """Measure claims and sweeps of both. Returns the claims' figures, and of how many waiting each is."""
    claims: tuple[list[float], list[float]] = ([], [])
    sweeps: tuple[list[float], list[float]] = ([], [])
    for _ in run.rounds(f"claims of {many.count:,}"):
        for number, (waiting, it) in enumerate(((few, one), (many, other))):
            claims[number].append(percentile(waiting.claim_us(CLAIMS), 50) / 1000)
            sweeps[number].append(percentile(sweeps_ms(it), 50))
    figures = []
    for waiting, claim, sweep in zip((few, many), claims, sweeps, strict=True):
        name = f"{waiting.count:,} waiting" + (f" (beside {many.count:,})" if waiting is few else "")
        figures.append((result.add(f"claim, {name}", "ms", claim), waiting.count))
        result.add(f"sweep, {name}", "ms", sweep)
    goal = Goal(2.0, 1.4, upwards=False) if many.count == MANY[-1] else None
    result.add_ratio(f"claim, {many.count:,} ÷ {few.count:,}", claims[1], claims[0], goal)
    result.add_ratio(f"sweep, {many.count:,} ÷ {few.count:,}", sweeps[1], sweeps[0])
    return figures


def sweeps_ms(it: Stack) -> list[float]:
    """Return how long whole sweeps took: where work waits, and who knows which targets."""
    config = read_config(it.config)

    async def sweep(client: RedisClient) -> list[float]:
        due, bells, targets = Due(client), Bells(client), Targets(client)
        egress = Egress(keep_body_bytes=0)
        deliverer = Deliverer(config, due, bells, egress)
        took = []
        for _ in range(SWEEPS):
            # A new one each time: its first round does all that later ones do now and then.
            parts = Upkeep(client), due, targets, Lanes(client), Inbox(client), bells, deliverer
            sweeper = Sweeper(config, "bench", *parts)
            started = perf_counter()
            await sweeper.sweep()
            took.append((perf_counter() - started) * 1000)
        await egress.close()
        return took

    return with_client(it.socket, sweep)


def add_bytes(result: Result, run: Run, it: Stack) -> None:
    """Measure what an event takes, never tried, with one target and with eleven."""
    count = run.count(EVENTS)
    whole: list[float] = []
    more: list[float] = []
    admit(it.socket, 0, 1, lambda _: [])  # the scripts, and what else Redis allocates once
    for _ in run.rounds("bytes of an event"):
        it.redis.flushall()
        empty = used(it)
        admit(it.socket, 0, count, lambda _: [TARGET])
        with_one = used(it)
        it.redis.flushall()
        admit(it.socket, 0, count, lambda _: [TARGET, *(f"more-{n:02d}" for n in range(MORE_TARGETS))])
        whole.append((with_one - empty) / count)
        more.append((used(it) - with_one) / count / MORE_TARGETS)
    it.redis.flushall()
    size = len(body(0))
    result.add(f"an event and its one delivery, body of {size} bytes", "bytes", whole)
    result.add("the same, its body apart", "bytes", [each - size for each in whole])
    result.add("each further waiting delivery", "bytes", more, Goal(300, 150, upwards=False))


def used(it: Stack) -> int:
    memory: int = it.redis.info("memory")["used_memory"]
    return memory


def add_worker_memory(result: Result, run: Run, one: Stack, other: Stack, count: int) -> None:
    """Let a worker sweep beside few and one beside many for a while."""
    workers = [it.workers(1)[0] for it in (one, other)]
    for _ in run.each(range(1), "memory of workers"):
        time.sleep(WATCHED_S)
    few, many = ([worker.rss_mib()] for worker in workers)
    result.add(f"worker memory, {FEW:,} waiting", "MiB", few)
    result.add(f"worker memory, {count:,} waiting", "MiB", many)
    result.add_ratio(f"worker memory, {count:,} ÷ {FEW:,}", many, few, Goal(1.05, 1.02, upwards=False))
