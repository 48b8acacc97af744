"""A real Redis or PostgreSQL for every test that asks for one; a sink and a folder for the whole gateway."""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain, count, islice
from pathlib import Path
from typing import TypeVar

import hypothesis
import pytest
from redis import Redis
from redis.exceptions import RedisError

from shared.process.embedded import SERVER_ENV, find_server
from shared.settings import EMBEDDED
from tests.acceptance.sink import Sink
from tests.postgresql import PostgreSQL
from tests.receiving import assert_sound

T = TypeVar("T")
DATABASES = count(1)

# A shared disk stalls for a second now and then; an fsync waits for it, and ingress answers 503, as it should.
# That is no test's subject: a killed process loses nothing that it has written, on a disk or here.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


# No test judges by how fast it was: the machine decides that.
hypothesis.settings.register_profile("headrace", deadline=None)
hypothesis.settings.load_profile("headrace")


# The longest tests, the longest first. One that began last would keep the whole suite waiting.
# What stands in one line shares what takes long to set up, so one process has it.
LONGEST = (
    (
        "test_a_kill_at_any_point_loses_nothing_and_doubles_nothing",
        "test_two_kills_at_random_points_lose_nothing_and_double_nothing",
        "test_the_plays_come_to_every_script_and_every_function_of_the_store",
    ),
    ("test_targets_that_are_down_fill_their_share_and_the_disk_and_no_other_notices",),
    ("test_at_the_top_rate_memory_turns_over_five_times_and_no_request_is_refused",),
    ("test_the_store_does_what_the_model_says",),
    ("test_a_redis_that_takes_no_writes_is_503_and_mends_by_itself",),
    ("test_asking_and_killing_workers_again_and_again_leaves_no_more_in_redis",),
    ("test_every_malformed_command_to_all_workers_is_dropped_and_survived",),
    ("test_a_worker_that_celery_starts_delivers_and_is_inspected",),
    ("test_every_process_is_killed_in_turn_under_load",),
    ("test_2000_events_arrive_while_workers_ingress_and_redis_are_killed",),
    ("test_if_all_together_fill_redis_the_one_that_takes_the_most_makes_room",),
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each process of pytest-xdist begin with some of the longest tests.

    `--dist worksteal` gives each an equal part of what was collected, in its order, and lets those that are
    done take from the others' ends.
    """
    processes = int(getattr(config, "workerinput", {}).get("workercount", 1))
    if processes > 1:
        items[:] = spread(items, processes, lambda item: item.name.partition("[")[0])


def spread(items: list[T], processes: int, name: Callable[[T], str]) -> list[T]:
    """Return `items` in as many parts as there are processes, the longest at the parts' beginnings."""
    long: list[list[T]] = []
    for names in LONGEST:
        found = [item for of in names for item in items if name(item) == of]
        long += [found] if len(names) > 1 else [[item] for item in found]
    named = {*chain(*LONGEST)}
    others = iter(item for item in items if name(item) not in named)
    parts: list[list[T]] = [[] for _ in range(processes)]
    there_and_back = [*range(processes), *reversed(range(processes))]
    for number, together in enumerate(filter(None, long)):
        parts[there_and_back[number % len(there_and_back)]].extend(together)
    left = len(items)
    for number, part in enumerate(parts):
        size = left // (processes - number)  # as pytest-xdist parts them
        part.extend(islice(others, max(0, size - len(part))))
        left -= size
    return [item for part in parts for item in part]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--model-steps", type=int, default=3_000, metavar="N", help="steps of tests/faults/test_model.py"
    )


WITHOUT_LOG = ("--appendonly", "no")
"""Options of a Redis whose memory is measured: the buffers of its log count as memory in use."""


class RedisServer:
    """A Redis of the tests' own, on a Unix socket, as strict as production's. `with` starts it, and ends it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.argv = [
            str(find_server()),
            *("--port", "0", "--unixsocket", str(self.socket), "--dir", str(folder), "--save", ""),
            *("--appendonly", "yes", "--maxmemory", "512mb", "--maxmemory-policy", "noeviction"),
            *("--loglevel", "warning", *options),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "RedisServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        self.process = subprocess.Popen(self.argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                with self.client() as client:
                    client.ping()
                    return
            except RedisError:
                assert time.monotonic() < deadline, "Redis does not start"
                time.sleep(0.02)

    def client(self) -> Redis:
        return Redis(unix_socket_path=str(self.socket), socket_timeout=5)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    # A folder of its own with a short name: a socket's path has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="hr-", dir=MEMORY) as folder:
        server = RedisServer(Path(folder))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    with redis_server.client() as client:
        client.flushall()
    return redis_server.url


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQL]:
    with PostgreSQL() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql_server: PostgreSQL) -> Iterator[str]:
    """An empty database of the test's own."""
    name = f"test_{next(DATABASES)}"
    yield postgresql_server.create_database(name)
    postgresql_server.start()  # the test may have left it killed or paused
    postgresql_server.drop_database(name)


# The second run, on the embedded Redis, is about what can differ by Redis's version.
ARCHIVES = ["sqlite"] if os.environ.get(SERVER_ENV) == EMBEDDED else ["sqlite", "postgresql"]


@pytest.fixture(params=ARCHIVES)
def archive_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An archive in SQLite, and in PostgreSQL, that does not exist yet."""
    if request.param == "postgresql":
        url: str = request.getfixturevalue("postgresql_url")
        return url
    return f"sqlite:///{tmp_path / 'archive.db'}"


@pytest.fixture
def sink() -> Iterator[Sink]:
    server = Sink()
    yield server
    server.close()
    # Whatever a test is about, no target ever gets an event that does not follow the published schema.
    for delivery in {delivery.id: delivery for delivery in server.deliveries}.values():
        whole = len(delivery.body) == int(delivery.headers["content-length"])  # its sender may be killed
        if whole and delivery.headers.get("content-type") == "application/cloudevents+json":
            assert_sound(delivery.headers, delivery.body)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a name short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="hr-", dir=MEMORY, ignore_cleanup_errors=True) as name:
        yield Path(name)
