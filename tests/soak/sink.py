"""`python -m tests.soak.sink --file FILE --seed N`: every target of a soak, in a process that nobody kills.

It prints its ports as one line of JSON, and appends a line to the file for each request that it has read to
the end, before the answer goes out. `POST /control/heal` ends all misbehaviour that is not for ever.
"""

import argparse
import asyncio
import contextlib
import time
from pathlib import Path
from random import Random

import msgspec
from standardwebhooks.webhooks import Webhook

from tests.acceptance.gateway import SECRET
from tests.soak.behaviour import HANG, RESET, TARGETS, Answer
from tests.soak.proxy import CuttingProxy
from tests.soak.records import Arrival

HUNG_S = 30.0
_WEBHOOK = Webhook(SECRET)
_TARGETS = {target.name: target for target in TARGETS}


class Ports(msgspec.Struct, frozen=True):
    """Where the targets listen, and where the proxy to them does."""

    straight: int
    cutting: int


class _Event(msgspec.Struct):
    class _Data(msgspec.Struct):
        provider: str
        transaction_id: str | None = None

    id: str
    type: str
    data: _Data


class Sink:
    """Answers as the targets do, and keeps what came."""

    def __init__(self, file: Path, seed: str) -> None:
        self._file = file.open("ab", buffering=0)
        self._chance = {name: Random(f"{seed}:{name}") for name in _TARGETS}
        self._healed = False
        self._proxy_chance = Random(f"{seed}:proxy")

    async def run(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        port = server.sockets[0].getsockname()[1]
        self._proxy = CuttingProxy(port, self._proxy_chance)
        print(msgspec.json.encode(Ports(port, await self._proxy.listen())).decode(), flush=True)
        await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:])}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                at = time.monotonic()
                name = head[0].split()[1].strip("/")
                if name == "control/heal":
                    self._healed = self._proxy.healed = True
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                elif not await self._answer(name, headers, body, at, writer):
                    break
        writer.transport.abort()

    async def _answer(
        self, name: str, headers: dict[str, str], body: bytes, at: float, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer a delivery. Returns whether the connection goes on."""
        target, id = _TARGETS[name], headers.get("webhook-id", "")
        well = self._healed and target.heals
        answer = Answer() if well else target.behave(self._chance[name], id)
        await asyncio.sleep(answer.delay_s)
        self._keep(name, id, headers, body, at, answer.status)
        if answer.status == HANG:
            await asyncio.sleep(HUNG_S)
        elif answer.status == RESET:
            writer.write(b"HTTP/1.1 200 O"[: self._chance[name].choice((0, 14))])
        else:
            retry_after = f"retry-after: {answer.retry_after}\r\n" if answer.retry_after else ""
            writer.write(f"HTTP/1.1 {answer.status} x\r\n{retry_after}content-length: 0\r\n\r\n".encode())
            await writer.drain()
        return answer.status > 0

    def _keep(self, name: str, id: str, headers: dict[str, str], body: bytes, at: float, status: int) -> None:
        type_ = transaction = problem = ""
        try:
            _WEBHOOK.verify(body, headers)
            event = msgspec.json.decode(body, type=_Event)
            type_ = event.type
            if event.data.transaction_id is not None:
                transaction = f"{event.data.provider} {event.data.transaction_id}"
            if event.id != id:
                problem = f"its body is {event.id}'s"
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        arrival = Arrival(
            name, id, at, time.monotonic(), max(0, status), type_, transaction, problem
        )  # one write a line: whoever reads the file sees whole ones
        self._file.write(msgspec.json.encode(arrival) + b"\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.sink")
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--seed", required=True)
    options = parser.parse_args()
    asyncio.run(Sink(options.file, options.seed).run())


if __name__ == "__main__":
    main()
