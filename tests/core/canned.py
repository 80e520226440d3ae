"""A server that sends exactly the bytes it was given, valid or not, and closes the connection."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from local.serving import Authority, abort_connections, stop_accepting

Answers = dict[str, bytes | tuple[bytes | None, ...]]
"""What to send, by path. The parts of a tuple are sent with a pause after each; None as the last one: never end."""
ANY_PATH = "*"


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it was received. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class CannedServer:
    answers: Answers
    pause: float = 0.05
    requests: list[Request] = field(default_factory=list)
    host: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client closed the connection
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append(Request(method, path, headers, body))
        known = path.partition("?")[0]
        answer = self.answers[known if known in self.answers else ANY_PATH]
        for part in answer if isinstance(answer, tuple) else (answer,):
            if part is None:
                await asyncio.Event().wait()
                return
            end = part.find(b"\r\n\r\n") + 4 if method == "HEAD" else len(part)
            writer.write(part[:end])
            await writer.drain()
            await asyncio.sleep(self.pause if isinstance(answer, tuple) else 0)


def http(status: int, body: object = b"", **headers: str) -> bytes:
    """An HTTP response: bytes as they are, anything else as JSON. `Retry_After="1"` becomes a header."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(content)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


MALFORMED = {
    "HTML": http(200, b"<html>ya29.canary</html>"),
    "an empty body": http(200, b""),
    "null": http(200, b"null"),
    "a list": http(200, b"[1]"),
    "a string": http(200, b'"ya29.canary"'),
    "a number": http(200, b"1"),
    "deeply nested": http(200, b"[" * 60_000),
    "not UTF-8": http(200, b'\xff\xfe"ya29.canary"'),
    "no token": http(200, b'{"expires_in": 300}'),
    "shorter than announced": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\nConnection: close\r\n\r\n{",
    "not HTTP": b"ya29.canary\r\n\r\n",
    "no response": b"",
}
"""Responses that no JSON service should send. A token in one of them must not appear in an error."""


@asynccontextmanager
async def serve_canned(
    authority: Authority | None, answers: Answers, pause: float = 0.05, hosts: tuple[str, ...] = ()
) -> AsyncIterator[CannedServer]:
    """Serve `answers` on a free port, over TLS if there is an authority, until the context ends. hosts: the names in
    the certificate, if not this machine's.
    """
    canned_server = CannedServer(answers, pause)
    running: set[asyncio.Task[None]] = set()
    handlers: set[asyncio.Task[Any]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if handler := asyncio.current_task():
            handlers.add(handler)
        task = asyncio.ensure_future(canned_server.serve(reader, writer))
        running.add(task)
        await asyncio.wait({task})
        writer.transport.abort()
        if not task.cancelled():
            task.result()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=authority and authority.server_context(*hosts))
    canned_server.host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield canned_server
    finally:
        await stop_accepting(server.sockets[0])
        server.close()
        await abort_connections(int(canned_server.host.partition(":")[2]))
        for task in running:
            task.cancel()
        await asyncio.gather(*running, *handlers, return_exceptions=True)
