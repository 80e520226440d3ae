"""A server that answers with exactly the bytes it was given, sense or nonsense, and hangs up."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from local.serving import Authority


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came in."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Canned:
    """`answers`: by path, what to send. An answer in several parts is sent with a pause between them, and one that
    ends in None is never finished.
    """

    answers: dict[str, bytes | tuple[bytes | None, ...]]
    pause: float = 0.05
    asked: list[Asked] = field(default_factory=list)
    host: str = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other side had seen enough
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.asked.append(Asked(method, path, headers, body))
        given = self.answers[path.partition("?")[0]]
        for part in given if isinstance(given, tuple) else (given,):
            if part is None:
                await asyncio.Event().wait()
                return
            end = part.find(b"\r\n\r\n") + 4 if method == "HEAD" else len(part)
            writer.write(part[:end])
            await writer.drain()
            await asyncio.sleep(self.pause if isinstance(given, tuple) else 0)


def http(status: int, body: object = b"", **headers: str) -> bytes:
    """An HTTP answer: bytes as they are, anything else as JSON. `Retry_After="1"` becomes a header."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(content)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


@asynccontextmanager
async def canned(
    authority: Authority | None, answers: dict[str, bytes | tuple[bytes | None, ...]], pause: float = 0.05
) -> AsyncIterator[Canned]:
    """Serves `answers` on a free port, over TLS if there is an authority. Leaves nothing running."""
    serving = Canned(answers, pause)
    running: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serving.answer(reader, writer))
        running.add(task)
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=authority and authority.server_context())
    serving.host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield serving
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
