"""What a target's table says of how it is reached and what it is sent, through the whole gateway."""

import json
import socket
import threading
from base64 import b64decode, b64encode
from pathlib import Path
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shared.delivery.signing import new_asymmetric_secret, signing_key
from shared.secrets import Secret
from tests.acceptance.gateway import SECRET, Gateway, target
from tests.acceptance.sink import Sink
from tests.faults.misbehaving import Misbehaving
from tests.waiting import wait_for

RETRY = "{ initial = '0.2s', factor = 1.0, max = '0.2s', attempts = 3, jitter = 0.0 }"


def body() -> bytes:
    return json.dumps({"type": "dispute_raised", "from": "a", "to": "b", "token": uuid4().hex}).encode()


class ConnectProxy(Misbehaving):
    """A CONNECT proxy: it notes the head of each request, and tunnels."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        super().__init__(self._tunnel)

    def _tunnel(self, sock: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(4096)
        self.heads.append(head)
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        with socket.create_connection((host, int(port))) as there:
            sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_relay, args=(there, sock), daemon=True)
            back.start()
            _relay(sock, there)
            back.join(5)


def _relay(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def test_headers_credentials_and_each_signature_go_out_on_every_attempt(folder: Path, sink: Sink) -> None:
    sink.answers["one"] = lambda _, before: 503 if before == 0 else 200
    asymmetric = new_asymmetric_secret()
    keys = {
        "retry": RETRY,
        "secret": f'["{asymmetric}", "{SECRET}"]',
        "headers": '{ "X-Team" = "payments-canary" }',
        "auth": '{ username = "headrace", password = "password-canary" }',
    }
    with Gateway(folder, target("one", sink.port, **keys)) as gateway:
        id = gateway.post("trustshare", body()).id
        attempts = sink.wait_for("one", 2)
        listed = gateway.command("deliveries", id).stdout + gateway.command("check").stdout
    public = signing_key(Secret(asymmetric)).public
    assert public is not None
    verifier = Ed25519PublicKey.from_public_bytes(b64decode(public.removeprefix("whpk_")))
    for attempt in attempts:
        assert attempt.headers["x-team"] == "payments-canary"
        credentials = b64encode(b"headrace:password-canary").decode()
        assert attempt.headers["authorization"] == f"Basic {credentials}"
        attempt.verify(SECRET)
        newest = attempt.headers["webhook-signature"].split(" ")[0]
        signed = f"{attempt.id}.{attempt.headers['webhook-timestamp']}.".encode() + attempt.body
        verifier.verify(b64decode(newest.removeprefix("v1a,")), signed)
    assert "canary" not in listed + gateway.log.read_text(errors="replace")


def test_deliveries_go_by_the_configured_proxy(folder: Path, sink: Sink) -> None:
    proxy = ConnectProxy()
    egress = f'egress.proxy = "http://user:proxy-canary@127.0.0.1:{proxy.port}"\n'
    closed = target("closed", sink.port, allow_private="false", retry=RETRY)
    gateway = Gateway(folder, target("one", sink.port) + closed)
    gateway.config.write_text(egress + gateway.config.read_text())
    with gateway:
        gateway.post("trustshare", body())
        sink.wait_for("one", 1)[0].verify(SECRET)
        wait_for(lambda: gateway.redis.zcard("hr:dead:closed") == 1, "the guard to refuse the other")
    where = f"127.0.0.1:{sink.port}".encode()
    credentials = b64encode(b"user:proxy-canary")
    assert len(proxy.heads) == 1, "for the open target alone"
    assert {head.split(b" ")[1] for head in proxy.heads} == {where}
    assert all(b"proxy-authorization: Basic " + credentials in head for head in proxy.heads)
    assert "proxy-canary" not in gateway.log.read_text(errors="replace")
    proxy.close()
