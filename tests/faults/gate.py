"""TCP proxies before the endpoints of Azurite, which has no faults of its own."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Literal

from local.serving import stop_accepting

Mode = Literal["open", "shut", "silent", "503"]
_ENDPOINT: Final = re.compile(r"(\w+)Endpoint=http://127\.0\.0\.1:(\d+)/")
_REQUEST_LINE: Final = re.compile(rb"([A-Z]+) (/\S*) HTTP/1\.1\r\n")
_BUSY: Final = b"HTTP/1.1 503 Server Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Gate:
    """A proxy before one port.

    open: passes everything on, each response after `delay` seconds. shut: resets every connection. silent: accepts
    connections and never responds. 503: responds so to `times` requests, then opens; -1 for ever.

    requests: the port of the client, which is one for each connection; method and path.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._mode: Mode = "open"
        self._times = -1
        self._writers: set[asyncio.StreamWriter] = set()
        self._closed = asyncio.Event()
        self._dropping: re.Pattern[bytes] | None = None
        self.delay = 0.0
        self.dropped = 0
        self.requests: list[tuple[int, str, str]] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def set(self, mode: Mode, times: int = -1) -> None:
        """Resets the connections that are there, unless it opens."""
        self._mode, self._times = mode, times
        if mode != "open":
            for writer in self._writers:
                writer.transport.abort()

    def drop_response_to(self, request: bytes) -> None:
        """Pass on the next request that begins with this pattern, and reset the connection instead of the response."""
        self._dropping = re.compile(request)

    async def stop(self) -> None:
        await stop_accepting(self._server.sockets[0])
        self._server.close()
        self.set("shut")
        await self._server.wait_closed()
        while self._writers:
            self._closed.clear()
            await self._closed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            match self._mode:
                case "open":
                    await self._proxy(reader, writer)
                case "silent":
                    await reader.read()
                case "503":
                    await self._refuse(reader, writer)
        except OSError:
            pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._closed.set()

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        await reader.readexactly(int(length[1]) if length else 0)
        writer.write(_BUSY)
        await writer.drain()
        self._times -= 1
        if self._times == 0:
            self.set("open")

    async def _proxy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target_reader, target = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers.add(target)
        port = writer.get_extra_info("peername")[1]
        is_dropped = asyncio.Event()

        async def note(request: bytes) -> bool:
            if line := _REQUEST_LINE.match(request):
                self.requests.append((port, line[1].decode(), line[2].decode()))
            if self._dropping and self._dropping.match(request):
                self._dropping = None
                self.dropped += 1
                is_dropped.set()
            return True

        async def wait(_: bytes) -> bool:
            await asyncio.sleep(self.delay)
            return not is_dropped.is_set()

        try:
            await asyncio.gather(_pump(reader, target, note), _pump(target_reader, writer, wait))
        finally:
            self._writers.discard(target)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: Callable[[bytes], Awaitable[bool]]
) -> None:
    try:
        while (data := await reader.read(65536)) and await passes(data):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.transport.abort()


class Gates(dict[str, Gate]):
    """The gates before a storage account, by service: `Blob`, `Queue`, `Table`."""

    def set(self, mode: Mode, times: int = -1) -> None:
        for gate in self.values():
            gate.set(mode, times)

    def delay(self, seconds: float) -> None:
        for gate in self.values():
            gate.delay = seconds


@asynccontextmanager
async def put_gates(storage: str) -> AsyncIterator[tuple[str, Gates]]:
    """Yield a connection string whose every endpoint lies behind a gate, and the gates."""
    gates = Gates({service: Gate(int(port)) for service, port in _ENDPOINT.findall(storage)})
    for gate in gates.values():
        await gate.start()
    try:
        yield (
            _ENDPOINT.sub(lambda found: f"{found[1]}Endpoint=http://127.0.0.1:{gates[found[1]].port}/", storage),
            gates,
        )
    finally:
        for gate in gates.values():
            await gate.stop()
