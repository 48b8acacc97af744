"""What the delivery client dials: names, addresses, and those it refuses."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Any

import pytest

from shared.errors import EgressError
from shared.http import Endpoint, dial
from shared.http.addresses import Address
from shared.values import Private

from .raw_targets import OK, SOON_S, answering, at, client, deaf, post, refused, run_on, target

Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a test's coroutine on each loop, and see that it leaves nothing open."""
    return lambda main: run_on(request.param, main)


def names(**table: list[str]) -> tuple[Any, list[str]]:
    """Return a resolver that knows `a` as a.test, and the names it was asked for."""
    asked: list[str] = []

    async def resolver(name: str, port: int) -> list[str]:
        asked.append(name)
        await asyncio.sleep(0)
        return table[name.removesuffix(".test")]

    return resolver, asked


async def reaches_nobody(endpoint: Callable[[int], Endpoint], **settings: Any) -> EgressError:
    async with target(answering(OK)) as here, client(**settings) as egress:
        error = await refused(post(egress, endpoint(here.port)))
        assert here.connections == 0
        return error


@pytest.mark.case(n=21)
@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]"])
def test_a_forbidden_literal_is_refused(run: Run, host: str) -> None:
    """FAULTS 21: loopback, as itself and in IPv6 disguises."""

    async def main() -> None:
        error = await reaches_nobody(lambda port: Endpoint.parse(f"http://{host}:{port}/"))
        assert error.kind == "address-refused"

    run(main)


@pytest.mark.case(n=20)
@pytest.mark.parametrize(
    "records",
    [
        ["127.0.0.1"],
        ["1.1.1.1", "127.0.0.1"],
        ["2606:4700::1111", "1.1.1.1", "::ffff:127.0.0.1"],
        ["1.1.1.1", "169.254.169.254"],
    ],
)
def test_one_forbidden_record_refuses_a_name(run: Run, records: list[str]) -> None:
    """FAULTS 20: a name with mixed records."""

    async def main() -> None:
        resolver, _ = names(a=records)
        error = await reaches_nobody(lambda port: Endpoint.parse(f"http://a.test:{port}/"), resolver=resolver)
        assert error.kind == "address-refused"
        assert "a.test resolves to" in error.detail
        assert ("allow_private" in error.detail) == ("169.254.169.254" not in records)

    run(main)


def test_the_metadata_address_is_refused_whatever_the_target_allows(run: Run) -> None:
    async def main() -> None:
        resolver, _ = names(a=["127.0.0.1", "169.254.169.254"])
        error = await reaches_nobody(lambda port: at(port, host="a.test"), resolver=resolver)
        assert error.kind == "address-refused"
        assert "no setting opens it" in error.detail

    run(main)


@pytest.mark.case(n=20)
def test_a_name_that_rebinds_gains_nothing(run: Run) -> None:
    """FAULTS 20: the addresses checked are the addresses dialled: one look-up a connection, checked each time."""
    records = [["127.0.0.1"], ["169.254.169.254"], ["127.0.0.1"]]

    async def resolver(name: str, port: int) -> list[str]:
        return records.pop(0)

    async def main() -> None:
        async with target(answering(OK, then_close=True)) as here, client(resolver=resolver) as egress:
            assert (await post(egress, at(here.port, host="a.test"))).status == 200
            assert len(records) == 2
            await here.until_closed()
            assert (await refused(post(egress, at(here.port, host="a.test")))).kind == "address-refused"
            assert (await post(egress, at(here.port, host="a.test"))).status == 200

    run(main)


def test_an_open_endpoints_connection_is_not_anothers(run: Run) -> None:
    async def main() -> None:
        async with target(answering(OK)) as here, client() as egress:
            await post(egress, at(here.port))
            closed = Endpoint.parse(f"http://127.0.0.1:{here.port}/hooks")
            assert (await refused(post(egress, closed))).kind == "address-refused"

    run(main)


@pytest.mark.case(n=21)
def test_proxies_of_the_environment_are_ignored(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 21: HTTP_PROXY and its like."""

    async def main() -> None:
        async with target(answering(OK)) as proxy, target(answering(OK)) as here, client() as egress:
            for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            await post(egress, at(here.port))
            assert (proxy.connections, here.connections) == (0, 1)

    run(main)


def test_a_system_name_is_looked_up(run: Run) -> None:
    async def main() -> None:
        async with target(answering(OK)) as here, client() as egress:
            assert (await post(egress, at(here.port, host="localhost"))).status == 200
            assert f"host: localhost:{here.port}".encode() in here.requests[0]

    run(main)


@pytest.mark.parametrize(
    "trouble",
    [socket.gaierror(socket.EAI_NONAME, "Name or service not known"), OSError(), UnicodeError(), None],
)
def test_a_look_up_that_fails_is_a_dns_error(run: Run, trouble: Exception | None) -> None:
    async def resolver(name: str, port: int) -> list[str]:
        if trouble is not None:
            raise trouble
        return []

    async def main() -> None:
        async with client(resolver=resolver) as egress:
            error = await refused(post(egress, at(80, host="a.test")))
            assert error.kind == "dns"
            assert "a.test" in error.detail

    run(main)


def test_a_hung_look_up_ends_by_the_deadline_and_holds_up_only_its_own_name(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, calls, real = threading.Event(), [], socket.getaddrinfo

    def getaddrinfo(host: str, *rest: Any, **more: Any) -> Any:
        calls.append(host)
        if host == "hung.test":
            released.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure")
        return real(host, *rest, **more)

    async def main() -> None:
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        async with target(answering(OK)) as here, client() as egress:
            calls.clear()
            for _ in range(2):
                posts = [post(egress, at(here.port, host="hung.test"), timeout_s=SOON_S) for _ in range(40)]
                errors = await asyncio.gather(*(refused(each) for each in posts))
                assert {error.kind for error in errors} == {"timeout"}
                assert "looked up" in errors[0].detail
            assert calls == ["hung.test"]
            assert (await post(egress, at(here.port, host="localhost"))).status == 200
            released.set()

    try:
        run(main)
    finally:
        released.set()


def test_an_address_that_refuses_gives_way_to_the_next_at_once(run: Run) -> None:
    async def main() -> None:
        resolver, _ = names(a=["::1", "127.0.0.2", "127.0.0.1", "127.0.0.3"])
        async with target(answering(OK)) as here, client(resolver=resolver) as egress:
            assert (await post(egress, at(here.port, host="a.test"))).status == 200

    run(main)


def test_an_address_that_is_deaf_gives_way_to_the_next_in_a_moment(run: Run) -> None:
    async def main() -> None:
        resolver, _ = names(a=["127.0.0.2", "127.0.0.1"])
        with deaf("127.0.0.2") as port:
            async with target(answering(OK), port=port) as here, client(resolver=resolver) as egress:
                assert (await post(egress, at(here.port, host="a.test"))).status == 200
                unheard = Endpoint.parse(f"http://127.0.0.2:{port}/", allow_private=Private.parse(True))
                assert (await refused(post(egress, unheard, timeout_s=SOON_S))).kind == "timeout"

    run(main)


def test_a_race_has_one_winner_and_closes_the_others(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []
    cancelled: list[str] = []

    async def main() -> None:
        together = asyncio.Event()
        real = dial._connect

        async def connect(address: Address, port: int) -> socket.socket:
            """Let the first hang, and the second and third connect in one moment."""
            if str(address) == "127.0.0.2":
                try:
                    await asyncio.Event().wait()
                finally:
                    cancelled.append(str(address))
            made.append(await real(ip_address("127.0.0.1"), port))
            sock = made[-1]
            if len(made) == 2:
                together.set()
            await together.wait()
            return sock

        monkeypatch.setattr(dial, "_connect", connect)
        resolver, _ = names(a=["127.0.0.2", "127.0.0.3", "127.0.0.4"])
        async with target(answering(OK)) as here, client(resolver=resolver) as egress:
            assert (await post(egress, at(here.port, host="a.test"))).status == 200
            await here.until_closed(connections=1)
            assert here.open == 1
            assert cancelled == ["127.0.0.2"]
            assert [sock.fileno() for sock in made].count(-1) == 1

    run(main)


def test_nobody_listening_is_a_connect_error(run: Run) -> None:
    async def main() -> None:
        resolver, _ = names(a=["127.0.0.1", "127.0.0.2"])
        async with target(answering(OK)) as here:
            port = here.port
        async with client(resolver=resolver) as egress:
            for host in ("127.0.0.1", "a.test"):
                error = await refused(post(egress, at(port, host=host)))
                assert error.kind == "connect"
                assert "refused" in error.detail

    run(main)


def test_ipv6_is_dialled(run: Run) -> None:
    async def main() -> None:
        try:
            async with target(answering(OK), host="::1") as here, client() as egress:
                assert (await post(egress, at(here.port, host="[::1]"))).status == 200
                assert f"host: [::1]:{here.port}\r\n".encode() in here.requests[0]
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")

    run(main)
