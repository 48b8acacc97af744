"""The stage that cases about single steps play on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.gateway import target
from tests.acceptance.sink import Sink
from tests.conftest import RedisServer
from tests.faults.proxy import Proxy
from tests.faults.stage import ONE, RETRY, TWO, Stage
from tests.faults.watched import Watched


@pytest.fixture
def stage(folder: Path, sink: Sink, redis_url: str, redis_server: RedisServer) -> Iterator[Stage]:
    proxy = Proxy(redis_server.socket)
    keys = {"timeout": '"60s"', "retry": RETRY}  # no attempt ends because this machine is slow
    targets = target(ONE, sink.port, **keys) + target(TWO, sink.port, **keys)
    gateway = Watched(
        folder, targets, sink, redis_url=proxy.url, redis=redis_server.client(), inside="impatient"
    )
    with gateway:
        yield Stage(gateway, proxy, sink)
    proxy.close()
