"""A gate before a server that cannot be told to go wrong: open, or shut with everybody who was inside put out."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_ENDPOINT: Final = re.compile(r"http://127\.0\.0\.1:(\d+)/")


class Gate:
    """Passes on what comes to its own port. Shut, it hangs up on everybody, as a host that is not there would."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self._open = True
        self._passing: set[asyncio.StreamWriter] = set()
        self._left = asyncio.Event()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._passed, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def open(self) -> None:
        self._open = True

    def shut(self) -> None:
        self._open = False
        for writer in self._passing:
            writer.transport.abort()

    async def stop(self) -> None:
        self._server.close()
        self.shut()
        await self._server.wait_closed()
        while self._passing:
            self._left.clear()
            await self._left.wait()

    async def _passed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        behind_reader, behind = await asyncio.open_connection("127.0.0.1", self._behind)
        ends = {writer, behind}
        self._passing |= ends
        try:
            await asyncio.gather(_pumped(reader, behind), _pumped(behind_reader, writer))
        finally:
            self._passing -= ends
            self._left.set()


async def _pumped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.transport.abort()


@asynccontextmanager
async def gated(storage: str) -> AsyncIterator[tuple[str, list[Gate]]]:
    """A connection string whose every endpoint lies behind a gate, and the gates."""
    gates: dict[str, Gate] = {}
    for port in dict.fromkeys(_ENDPOINT.findall(storage)):
        gates[port] = Gate(int(port))
        await gates[port].start()
    try:
        yield _ENDPOINT.sub(lambda found: f"http://127.0.0.1:{gates[found[1]].port}/", storage), list(gates.values())
    finally:
        for gate in gates.values():
            await gate.stop()
