"""An HTTP/1.1 server that accepts and refuses what the real host's server does; tests/local/host/recordings shows it.

Own code, because aiohttp refuses what the real server passes on (unknown methods, malformed chunks, odd status codes)
and reads or unpacks what the real one does not (chunked bodies, gzip).
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import formatdate
from http import HTTPStatus

_LONGEST_LINE = 8 * 1024
_HEADERS_SIZE = 32 * 1024
_HEADERS_COUNT = 100
_LONGEST_BODY = 100 * 1024 * 1024
_BODY_PATIENCE = 6.0
"""Seconds without a byte of the body until the real server gives up."""
_LINGER = 2.0
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REQUEST = re.compile(rf"({_TOKEN.pattern}) (/[!-~]*) HTTP/1\.([01])")
_LATER = "%[89AB][0-9A-F]"
_ESCAPED = re.compile(
    rf"%([0-7][0-9A-F]|[CD][0-9A-F]{_LATER}|E[0-9A-F]({_LATER}){{2}}|F[0-7]({_LATER}){{3}})", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Request:
    """path: decoded once, but for %2F and for bytes that are not UTF-8. query: as sent, without the question mark.

    url: the path encoded again, the query as sent. headers: names in lower case, repeated ones joined with a comma.
    body: empty if the request has no Content-Length.
    """

    method: str
    path: str
    query: str
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus) -> None:
        self.status = status


class HttpServer:
    """Serves `handle` on the loopback interface."""

    def __init__(self, handle: Callable[[Request], Awaitable[Response]]) -> None:
        self._handle = handle
        self._idle: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def start(self, port: int, *, reuse_port: bool = False) -> int:
        """Returns the port, which is a free one for 0. reuse_port: a socket that does not listen may have it too."""
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", port, limit=_LONGEST_LINE + _HEADERS_SIZE, reuse_port=reuse_port
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self, grace: timedelta) -> None:
        """Close the port and idle connections at once; requests in progress have `grace` to end."""
        self._server.close()
        for task in self._idle:
            task.cancel()
        if self._busy:
            await asyncio.wait(self._busy, timeout=grace.total_seconds())
        left = self._idle | self._busy
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        keep = True
        try:
            while keep and self._server.is_serving():
                self._idle.add(task)
                try:
                    head = await _read_head(reader)
                    self._idle.discard(task)
                    self._busy.add(task)
                    request, chunk, keep = await _read_request(head, reader, writer)
                    data, keep = _encode(await self._handle(request), request.method, chunk=chunk, keep=keep)
                except _RefusedError as refused:
                    data, keep = _encode(Response(refused.status), "", chunk=False, keep=False)
                writer.write(data)
                await writer.drain()
                self._busy.discard(task)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client is gone
        finally:
            self._idle.discard(task)
            await _close(reader, writer)
            self._busy.discard(task)


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as overrun:
        line_fits = b"\n" in await reader.read(_LONGEST_LINE)
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if line_fits else HTTPStatus.REQUEST_URI_TOO_LONG
        raise _RefusedError(status) from overrun


def _require(good: object, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
    if not good:
        raise _RefusedError(status)


async def _read_request(
    head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[Request, bool, bool]:
    """Returns also whether the client takes chunks, and whether it keeps the connection. Raises _RefusedError."""
    line, *lines = head.decode(errors="surrogateescape").split("\r\n")[:-2]
    _require(len(line) + 2 <= _LONGEST_LINE, HTTPStatus.REQUEST_URI_TOO_LONG)
    fits = len(head) - len(line) <= _HEADERS_SIZE and len(lines) <= _HEADERS_COUNT
    _require(fits, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    match = _REQUEST.fullmatch(line)
    if match is None:
        raise _RefusedError(HTTPStatus.BAD_REQUEST)
    method, target, is_1_1 = match[1], match[2], match[3] == "1"
    headers = _parse_headers(lines)
    # Without a host, the real one fails to make the URL.
    _require("host" in headers, HTTPStatus.BAD_REQUEST if is_1_1 else HTTPStatus.INTERNAL_SERVER_ERROR)
    keep = is_1_1 and "close" not in headers.get("connection", "").lower()
    body = b""
    if "transfer-encoding" in headers:
        keep = False  # the body stays unread
        if "content-length" in headers:
            headers["x-content-length"] = headers.pop("content-length")
    elif "content-length" in headers:
        if headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await _read_body(reader, headers["content-length"])
    path, question, query = target.partition("?")
    path = _remove_dots(unescape(path))
    _require("\0" not in path)
    url = f"http://{headers['host']}{_escape(path)}{question}{query}"
    return Request(method, path, query, url, headers, body), is_1_1, keep


def _parse_headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        _require(colon and _TOKEN.fullmatch(name) and not re.search(r"[\0\r\n\udc80-\udcff]", value))
        _require(name != "host" or name not in headers)
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


async def _read_body(reader: asyncio.StreamReader, length: str) -> bytes:
    _require(re.fullmatch(r"[0-9]+", length))
    size, body = int(length), bytearray()
    _require(size <= _LONGEST_BODY, HTTPStatus.INTERNAL_SERVER_ERROR)
    while len(body) < size:
        try:
            part = await asyncio.wait_for(reader.read(size - len(body)), _BODY_PATIENCE)
        except TimeoutError as silent:
            raise _RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR) from silent
        if not part:
            raise ConnectionResetError("the client closed the connection before the end of its body")
        body += part
    return bytes(body)


def unescape(text: str, keep: str = "/") -> str:
    """Decode %XX once. What is not UTF-8 stays as it is, and so does the character `keep`."""

    def character(match: re.Match[str]) -> str:
        try:
            decoded = bytes.fromhex(match[0].replace("%", "")).decode()
        except UnicodeDecodeError:
            return match[0]
        return match[0] if decoded == keep else decoded

    return _ESCAPED.sub(character, text)


def _escape(path: str) -> str:
    unsafe = r"(%[0-9A-Fa-f]{2})|[^A-Za-z0-9/:@!$&'()*+,;=~._-]"
    return re.sub(unsafe, lambda found: found[1] or "".join(f"%{byte:02X}" for byte in found[0].encode()), path)


def _remove_dots(path: str) -> str:
    segments = path.split("/")[1:]
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept + [""] * (segments[-1] in {".", ".."} and bool(kept)))


def _encode(response: Response, method: str, *, chunk: bool, keep: bool) -> tuple[bytes, bool]:
    """The bytes of a response, and whether the connection can be kept. Raises _RefusedError for a bad header."""
    given = {name.lower(): value for name, value in response.headers.items()}
    headers = {"date": formatdate(usegmt=True), "server": "Kestrel"} | given
    bodiless = method == "HEAD" or response.status in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
    body = b"" if bodiless else response.body
    length = given.get("content-length", str(len(body)))
    missing = int(length) - len(body) if length.isdecimal() else -1
    good = all(_TOKEN.fullmatch(name) and re.fullmatch(r"[\t -~]*", value) for name, value in given.items())
    _require(good and missing >= 0, HTTPStatus.INTERNAL_SERVER_ERROR)
    if "content-length" in given or "transfer-encoding" in given:
        keep = keep and not missing and "transfer-encoding" not in given  # the body is sent as it is
    elif body and chunk:
        headers["transfer-encoding"] = "chunked"
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    elif not body and not bodiless:
        headers["content-length"] = "0"
    if not keep:
        headers["connection"] = "close"
    phrase = HTTPStatus(response.status).phrase if response.status in set(HTTPStatus) else ""
    lines = [f"HTTP/1.1 {response.status} {phrase}", *(f"{name.title()}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body, keep


async def _close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read on for a moment: to close with bytes unread would take the response away from the client."""
    with suppress(OSError, TimeoutError):
        writer.write_eof()
        async with asyncio.timeout(_LINGER):
            while await reader.read(65536):
                pass
    writer.close()
