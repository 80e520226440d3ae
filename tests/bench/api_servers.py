"""Thousands of API servers in a process of their own: TLS, a CA for each, and 30 ms until an apply is answered.

They answer every PATCH as a kube-apiserver answers an apply that asks for metadata. They check nothing, because they
measure the client alone; what a server checks is tested elsewhere. A mode can be set for each: `silent` takes the
request and never answers. A GET gets one page with as many namespaces as `namespaces` said.

`python -m tests.bench.api_servers COUNT NAMESPACES` prints one JSON line with port and CA of each, and reads modes as
JSON lines.
"""

import asyncio
import json
import ssl
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any, Final, Self

import trustme

_LATENCY: Final = 0.03
_ADDRESSES: Final = 10
"""Of each server, all of them loopback."""
LABEL: Final = "pull"
"""Of all namespaces, with the value `yes`."""
_ANNOTATIONS: Final = {"example.com/purpose": "x" * 400}
_ROOT: Final = Path(__file__).parents[2]


class _Connection(asyncio.Protocol):
    """One request after the other, with as little work as possible."""

    def __init__(self, server: "_ApiServer") -> None:
        self._server = server
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        length = head.lower().partition(b"content-length:")[2].partition(b"\r")[0]
        if len(body) < int(length or 0) or self._server.mode == "silent":
            return
        self._data = b""
        self._server.requests += 1
        response = self._server.namespaces if head.startswith(b"GET") else self._server.response
        asyncio.get_running_loop().call_later(_LATENCY, self._respond, response)

    def _respond(self, response: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(response)  # type: ignore[attr-defined]


class _ApiServer:
    def __init__(self) -> None:
        self.mode = "healthy"
        self.requests = 0
        metadata = {"name": "ar-pull-secret", "namespace": "deepintshield", "uid": str(uuid.uuid4())}
        self.response = _respond_with({"kind": "PartialObjectMetadata", "metadata": metadata})
        self.namespaces = b""

    def set_namespaces(self, count: int) -> None:
        names = [f"team-{number:03}" for number in range(count)]
        items = [
            {
                "metadata": {
                    "name": name,
                    "uid": str(uuid.uuid4()),
                    "labels": {LABEL: "yes"},
                    "annotations": _ANNOTATIONS,
                }
            }
            for name in names
        ]
        self.namespaces = _respond_with({"kind": "PartialObjectMetadataList", "metadata": {}, "items": items})

    async def start(self) -> dict[str, Any]:
        authority = trustme.CA()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(*(f"127.0.0.{n}" for n in range(1, 1 + _ADDRESSES))).configure_cert(context)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self), "0.0.0.0", 0, ssl=context, backlog=128)
        return {"port": server.sockets[0].getsockname()[1], "ca": authority.cert_pem.bytes().decode()}


def _respond_with(document: dict[str, Any]) -> bytes:
    body = json.dumps({"apiVersion": "meta.k8s.io/v1", **document})
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


async def _serve(count: int, namespaces: int) -> None:
    servers = [_ApiServer() for _ in range(count)]
    for server in servers:
        server.set_namespaces(namespaces)
    print(json.dumps([await server.start() for server in servers]), flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        for number, mode in json.loads(line).items():
            servers[int(number)].mode = mode
        print(sum(server.requests for server in servers), flush=True)


class ApiServers:
    """The process. `with` it: endpoints has port and CA of each."""

    def __init__(self, count: int, namespaces: int = 0) -> None:
        self._arguments = [str(count), str(namespaces)]

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.bench.api_servers", *self._arguments]
        self._process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.endpoints: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        return self._process.pid

    def count_requests(self) -> int:
        """Return how many requests all servers have answered."""
        return self.set_modes({})

    def set_modes(self, modes: dict[int, str]) -> int:
        """Set the mode of these servers: `healthy` or `silent`. Returns how many requests all servers have answered."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(modes) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
