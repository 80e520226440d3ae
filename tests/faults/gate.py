"""A gate before a server that cannot be told to go wrong: open, or shut with everybody who was inside put out; or open
to a request, and shut to its answer.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
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
        self._losing: re.Pattern[bytes] | None = None
        self.lost = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._passed, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def open(self) -> None:
        self._open = True

    def shut(self) -> None:
        self._open = False
        for writer in self._passing:
            writer.transport.abort()

    def lose_the_answer_to(self, request: bytes) -> None:
        """To the next request that begins so, a pattern: the server does what is asked, and nobody hears of it."""
        self._losing = re.compile(request)

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
            lost = asyncio.Event()
            await asyncio.gather(
                _pumped(reader, behind, lambda data: self._noted(data, lost)),
                _pumped(behind_reader, writer, lambda _: not lost.is_set()),
            )
        finally:
            self._passing -= ends
            self._left.set()

    def _noted(self, data: bytes, lost: asyncio.Event) -> bool:
        if self._losing and self._losing.match(data):
            self._losing = None
            self.lost += 1
            lost.set()
        return True


async def _pumped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: Callable[[bytes], bool]) -> None:
    try:
        while (data := await reader.read(65536)) and passes(data):
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
