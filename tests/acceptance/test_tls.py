"""Redis over TLS: ingress, worker and Celery check its certificate and show one of their own."""

import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

import pytest
import trustme

from shared.process.embedded import find_server
from tests.acceptance.gateway import HEADRACE, REQUESTS, SOURCES, clean_env, free_port, target
from tests.acceptance.sink import Sink
from tests.conftest import RedisServer
from tests.waiting import wait_for

PASSWORD = "canary-password-of-redis"
BODY = b'{"type":"dispute_raised","token":"abc"}'


@pytest.fixture(scope="module", autouse=True)
def _tls() -> None:
    argv = [str(find_server()), "--tls-port", "0", "--port", "no number"]
    said = subprocess.run(argv, capture_output=True, timeout=60, check=False)
    if b"tls-port" in said.stdout + said.stderr:
        pytest.skip("this redis-server has no TLS; one that has: apt-get install redis-server")


class Authority:
    """Issues certificates, as files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return the files of a certificate for a host, with its chain, and of its key."""
        issued = self._ca.issue_cert(name)
        chain, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return chain, key


@pytest.fixture
def authority(folder: Path) -> Authority:
    (folder / "tls").mkdir()
    return Authority(folder / "tls")


@pytest.fixture
def redis_port(folder: Path, authority: Authority) -> Iterator[int]:
    """The port of a Redis with a certificate for `localhost`, and for nothing else."""
    port = free_port()
    chain, key = authority.issue("localhost")
    files = ("--tls-cert-file", str(chain), "--tls-key-file", str(key), "--tls-ca-cert-file")
    server = RedisServer(folder, "--tls-port", str(port), *files, str(authority.file))
    server.start()
    with server.client() as client:
        client.acl_setuser(
            "gateway",
            enabled=True,
            passwords=[f"+{PASSWORD}"],
            categories=["+@all"],
            keys=["*"],
            channels=["*"],
        )
        client.acl_setuser("default", enabled=True, passwords=[f"+{PASSWORD}"])
    yield port
    server.kill()


def configure(folder: Path, host: str, redis_port: int, targets: str, **options: object) -> tuple[Path, int]:
    """Write a configuration. Returns its file, and ingress' port."""
    url = f"rediss://gateway:{PASSWORD}@{host}:{redis_port}/0?{urlencode(options)}"
    port, config = free_port(), folder / "headrace.toml"
    config.write_text(f'redis.url = "{url}"\ningress.port = {port}\n{SOURCES}{targets}')
    return config, port


def post(port: int) -> int:
    """Send an event. Returns the status, or 0 if nobody listens."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    path, headers = REQUESTS["trustshare"]
    try:
        connection.request("POST", path, BODY, headers)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def test_an_event_passes_if_both_sides_show_certificates(
    folder: Path, authority: Authority, redis_port: int, sink: Sink
) -> None:
    chain, key = authority.issue("gateway.test")
    options: dict[str, object] = {
        "ssl_ca_certs": authority.file,
        "ssl_certfile": chain,
        "ssl_keyfile": key,
    }
    options |= {"ssl_min_version": "TLSv1_2", "ssl_ciphers": "ECDHE+AESGCM", "ssl_cert_reqs": "required"}
    config, port = configure(folder, "localhost", redis_port, target("all", sink.port), **options)
    log = folder / "log"
    with open(log, "wb") as output:
        processes = [
            subprocess.Popen(
                [HEADRACE, verb, "--config", str(config)], stdout=output, stderr=output, env=clean_env()
            )
            for verb in ("ingress", "worker")
        ]
    try:
        wait_for(lambda: post(port) == 200, "ingress to take an event", within_s=60)
        sink.wait_for("all", 1, within_s=60)
        argv = [HEADRACE, "events", "--config", str(config)]
        shown = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=clean_env(), check=False)
        assert "dispute.raised" in shown.stdout, shown.stderr
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            assert process.wait(60) == 0
    assert PASSWORD not in log.read_text()
    assert "insecure" not in log.read_text(), "Kombu would check no certificate, and say so"


@pytest.mark.parametrize("wrong", ["another authority", "another host"])
def test_a_redis_that_does_not_prove_who_it_is_gets_nothing(
    wrong: str, folder: Path, authority: Authority, redis_port: int, sink: Sink, tmp_path: Path
) -> None:
    trusted = Authority(tmp_path) if wrong == "another authority" else authority
    host = "localhost" if wrong == "another authority" else "127.0.0.1"
    chain, key = authority.issue("gateway.test")
    options = {"ssl_ca_certs": trusted.file, "ssl_certfile": chain, "ssl_keyfile": key}
    config, port = configure(folder, host, redis_port, target("all", sink.port), **options)
    for verb in ("ingress", "worker"):
        log = folder / f"{verb}.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [HEADRACE, verb, "--config", str(config)], stdout=output, stderr=output, env=clean_env()
            )
        try:
            wait_for(lambda: "CERTIFICATE_VERIFY_FAILED" in log.read_text(), f"{verb} to say so", within_s=60)  # noqa: B023
            if verb == "ingress":
                assert post(port) == 503
        finally:
            process.terminate()
            assert process.wait(60) == 0
        assert PASSWORD not in log.read_text()
