"""The delivery client over TLS: what it verifies, and that it never falls back."""

import asyncio
import datetime
import ssl
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import trustme

from shared.errors import EgressError
from shared.http import Answer, Endpoint

from .raw_targets import OK, SOON_S, Target, answering, at, client, gone, post, refused, run_on, target

Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
CA = trustme.CA()


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a test's coroutine on each loop, and see that it leaves nothing open."""
    return lambda main: run_on(request.param, main)


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    CA.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


def serving(*names: str, ca: trustme.CA = CA, **validity: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names, **validity).configure_cert(context)
    return context


async def loopback(name: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def test_a_verified_target_is_served_over_a_kept_connection(run: Run, ca_file: str) -> None:
    asked: list[str | None] = []

    async def main() -> None:
        tls = serving("a.test")
        tls.sni_callback = lambda _, name, __: asked.append(name)
        async with target(answering(OK), tls=tls) as here, client(resolver=loopback) as egress:
            endpoint = at(here.port, host="a.test", scheme="https", ca_file=ca_file)
            for size in (0, 262144, 3_000_000):
                assert await post(egress, endpoint, bytes(size)) == Answer(200, None, b"ok", False)
            assert here.connections == 1
            assert f"host: a.test:{here.port}\r\n".encode() in here.requests[0]
        assert asked == ["a.test"]

    run(main)


def test_an_address_literal_is_verified_as_an_address(run: Run, ca_file: str) -> None:
    async def main() -> None:
        async with target(answering(OK), tls=serving("127.0.0.1")) as here, client() as egress:
            assert (await post(egress, at(here.port, scheme="https", ca_file=ca_file))).status == 200

    run(main)


def test_a_kept_tls_connection_that_was_closed_is_replaced(run: Run, ca_file: str) -> None:
    async def main() -> None:
        tls = serving("127.0.0.1")
        async with target(answering(OK, then_close=True), tls=tls) as here, client() as egress:
            for expected in (1, 2):
                assert (await post(egress, at(here.port, scheme="https", ca_file=ca_file))).status == 200
                assert here.connections == expected

    run(main)


def test_an_answer_without_a_length_ends_with_the_tls_connection(run: Run, ca_file: str) -> None:
    async def main() -> None:
        tls = serving("127.0.0.1")
        handler = answering(b"HTTP/1.0 200 OK\r\n\r\nabc", then_close=True, pause_s=0.05)
        async with target(handler, tls=tls) as here, client() as egress:
            answer = await post(egress, at(here.port, scheme="https", ca_file=ca_file))
            assert answer == Answer(200, None, b"abc", False)

    run(main)


PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.case(n=22)
@pytest.mark.parametrize(
    ("context", "trusted", "reason"),
    [
        (serving("b.test"), True, "mismatch"),
        (serving("127.0.0.1"), True, "mismatch"),
        (serving("a.test", not_before=PAST, not_after=PAST + datetime.timedelta(days=1)), True, "expired"),
        (serving("a.test"), False, "issuer certificate"),
        (serving("a.test", ca=trustme.CA()), True, "issuer certificate"),
    ],
    ids=["other-name", "address-only", "expired", "not-in-system-store", "other-ca"],
)
def test_a_certificate_that_proves_nothing_is_refused(
    run: Run, ca_file: str, context: ssl.SSLContext, trusted: bool, reason: str
) -> None:
    """FAULTS 22: expired, wrong host, not trusted."""

    async def main() -> None:
        async with target(answering(OK), tls=context) as here, client(resolver=loopback) as egress:
            endpoint = at(here.port, host="a.test", scheme="https", ca_file=ca_file if trusted else None)
            error = await refused(post(egress, endpoint))
            assert error.kind == "tls"
            assert reason in error.detail.lower()
            assert "\n" not in error.detail
            assert here.requests == []

    run(main)


@pytest.mark.case(n=22)
def test_an_old_protocol_is_refused(run: Run, ca_file: str) -> None:
    """FAULTS 22: TLS 1.1 and older."""

    async def main() -> None:
        old = serving("a.test")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        async with target(answering(OK), tls=old) as here, client(resolver=loopback) as egress:
            error = await refused(post(egress, at(here.port, host="a.test", scheme="https", ca_file=ca_file)))
            assert error.kind == "tls"
            assert here.requests == []

    run(main)


@pytest.mark.parametrize("speech", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x16\x03\x01\x00\x02\x02"])
def test_a_target_that_speaks_no_tls_gets_nothing(run: Run, speech: bytes) -> None:
    seen: list[bytes] = []

    async def handler(here: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(65536))
        writer.write(speech)
        await writer.drain()
        await asyncio.sleep(0.05)

    async def main() -> None:
        async with target(handler) as here, client() as egress:
            assert (await refused(post(egress, at(here.port, scheme="https")))).kind == "tls"
            assert here.connections == 1
        assert all(b"POST" not in each and each[:1] == b"\x16" for each in seen)

    run(main)


def test_a_handshake_counts_towards_the_deadline(run: Run) -> None:
    async def handler(here: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone(reader)

    async def main() -> None:
        async with target(handler) as here, client() as egress:
            posts = [post(egress, at(here.port, scheme="https"), timeout_s=SOON_S) for _ in range(4)]
            errors = await asyncio.gather(*(refused(each) for each in posts))
            assert {error.kind for error in errors} == {"timeout"}
            assert "TLS handshake" in errors[0].detail
            await here.until_closed()

    run(main)


def test_a_tls_target_that_never_reads_or_never_answers_cannot_pass_the_deadline(
    run: Run, ca_file: str
) -> None:
    async def handler(here: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport too
        await asyncio.sleep(20)

    async def main() -> None:
        async with target(handler, tls=serving("127.0.0.1")) as here, client() as egress:
            endpoint = at(here.port, scheme="https", ca_file=ca_file)
            for size in (10, 8_000_000):
                error = await refused(post(egress, endpoint, bytes(size), timeout_s=SOON_S))
                assert error.kind == "timeout"

    run(main)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 6, 10, 20])
def test_a_post_cancelled_while_its_connection_opens_leaves_nothing(
    run: Run, ca_file: str, steps: int
) -> None:
    async def main() -> None:
        async with target(answering(OK), tls=serving("127.0.0.1")) as here, client() as egress:
            endpoint = at(here.port, scheme="https", ca_file=ca_file)
            posts = [asyncio.ensure_future(post(egress, endpoint)) for _ in range(3)]
            for _ in range(steps):
                await asyncio.sleep(0)
            for each in posts:
                each.cancel()
            await asyncio.gather(*posts, return_exceptions=True)
            assert (await post(egress, endpoint)).status == 200

    run(main)


def test_a_client_certificate_is_shown_to_a_target_that_asks(run: Run, ca_file: str, tmp_path: Path) -> None:
    CA.issue_cert("headrace.test").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "own.pem"))

    async def main() -> None:
        tls = serving("127.0.0.1")
        tls.verify_mode = ssl.CERT_REQUIRED
        CA.configure_trust(tls)
        async with target(answering(OK), tls=tls) as here, client() as egress:
            own = str(tmp_path / "own.pem")
            endpoint = at(here.port, scheme="https", ca_file=ca_file, client_cert=own)
            assert (await post(egress, endpoint)).status == 200
            # Under TLS 1.3 the refusal comes after the handshake; the close may overtake it.
            error = await refused(post(egress, at(here.port, scheme="https", ca_file=ca_file)))
            assert error.kind in ("tls", "protocol")

    run(main)


def test_a_ca_file_is_trusted_beside_the_systems_store(
    run: Run, ca_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = trustme.CA()
    private.cert_pem.write_to_path(str(tmp_path / "private.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)  # the system's store, for OpenSSL

    async def main() -> None:
        async with (
            target(answering(OK), tls=serving("127.0.0.1")) as public,
            target(answering(OK), tls=serving("127.0.0.1", ca=private)) as inside,
            client() as egress,
        ):
            both = str(tmp_path / "private.pem")
            assert (await post(egress, at(public.port, scheme="https", ca_file=both))).status == 200
            assert (await post(egress, at(inside.port, scheme="https", ca_file=both))).status == 200
            assert (await post(egress, at(public.port, scheme="https"))).status == 200
            error = await refused(post(egress, at(inside.port, scheme="https")))
            assert error.kind == "tls"

    run(main)


def test_a_file_that_was_renewed_is_read_again(run: Run, tmp_path: Path) -> None:
    own = tmp_path / "ca.pem"

    async def main() -> None:
        async with client() as egress:
            for authority in (trustme.CA(), trustme.CA()):
                authority.cert_pem.write_to_path(str(own))
                async with target(answering(OK), tls=serving("127.0.0.1", ca=authority)) as here:
                    assert (await post(egress, at(here.port, scheme="https", ca_file=str(own)))).status == 200

    run(main)


def test_a_ca_file_that_cannot_be_read_is_a_tls_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "junk.pem").write_text("junk")

    async def main() -> None:
        async with target(answering(OK), tls=serving("127.0.0.1")) as here, client() as egress:
            for name in ("missing.pem", "junk.pem"):
                endpoint = at(here.port, scheme="https", ca_file=str(tmp_path / name))
                error = await refused(post(egress, endpoint))
                assert isinstance(error, EgressError)
                assert (error.kind, "cannot be used" in error.detail) == ("tls", True)

    run(main)


def test_plain_and_tls_connections_are_never_mixed(ca_file: str) -> None:
    keys = {
        Endpoint.parse(url, ca_file=ca).pool_key
        for url in ("http://a.test:8443/", "https://a.test:8443/")
        for ca in (None, ca_file)
    }
    assert len(keys) == 4
