"""What every stand-in needs: a certificate authority, a server on a free port, a journal, and injected faults."""

import asyncio
import json
import re
import socket
import ssl
from asyncio.trsock import TransportSocket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any

import trustme
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

_ADDRESS = "127.0.0.1"
_SECRET_HEADERS = frozenset({"authorization", "x-identity-header", "cookie"})


class Refusal(web.HTTPException):
    """An error response with a service's own JSON body. Handlers raise it."""

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        self.status_code = status
        super().__init__(text=json.dumps(body), content_type="application/json", headers=headers)


class Authority:
    """A certificate authority that lives as long as this process."""

    def __init__(self, ca: trustme.CA | None = None) -> None:
        self._ca = ca or trustme.CA()

    @property
    def pem(self) -> str:
        return self._ca.cert_pem.bytes().decode()

    def certificate(self) -> str:
        """Key and certificate chain of a server on this machine, as PEM: for programs that are not Python."""
        return self._ca.issue_cert(_ADDRESS, "localhost").private_key_and_cert_chain_pem.bytes().decode()

    def server_context(self, *hosts: str) -> ssl.SSLContext:
        """A new context with a new certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*(hosts or (_ADDRESS, "localhost"))).configure_cert(context)
        return context

    @cached_property
    def shared_context(self) -> ssl.SSLContext:
        """For every server on this machine; do not change it. Making one takes longer than the rest of a server."""
        return self.server_context()


class Server:
    """An application on a port of 127.0.0.1: TLS under the authority, or plain HTTP without one.

    client_ca_pem: clients may present a certificate of this CA; it is verified.
    """

    def __init__(self, app: web.Application, *, authority: Authority | None, client_ca_pem: str | None = None) -> None:
        self._app = app
        self._port = 0
        self._scheme = "https" if authority else "http"
        self._client_ca_pem = client_ca_pem
        self._context = self._build_context(authority) if authority else None
        self._runner: web.AppRunner | None = None
        self._listener: socket.socket

    def certify(self, authority: Authority) -> None:
        """Present a certificate of this authority from the next start on."""
        self._context = self._build_context(authority)

    def _build_context(self, authority: Authority) -> ssl.SSLContext:
        if self._client_ca_pem is None:
            return authority.shared_context
        context = authority.server_context()
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self._client_ca_pem)
        return context

    async def start(self) -> None:
        # Requests that hang on purpose end with the server, which does not wait for clients to disconnect.
        self._runner = web.AppRunner(self._app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        self._listener = socket.create_server((_ADDRESS, self._port))
        await web.SockSite(self._runner, self._listener, ssl_context=self._context).start()
        self._port = self._listener.getsockname()[1]

    async def stop(self) -> None:
        """Stop listening. A later start uses the same port."""
        if self._runner:
            await stop_accepting(self._listener)
            # The application may be served again, so it is not shut down together with its runner.
            for site in list(self._runner.sites):
                await site.stop()
            if self._runner.server:
                await self._runner.server.shutdown(0.1)
            await abort_connections(self._port)
            self._runner = None

    @property
    def host(self) -> str:
        return f"{_ADDRESS}:{self._port}"

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self.host}"


async def stop_accepting(listener: socket.socket | TransportSocket) -> None:
    """Call it before a server is closed. Else `asyncio` leaks a connection that it has just accepted: it makes the
    transport a turn of the loop later, which fails for a closed server (`Server._attach`).
    """
    asyncio.get_running_loop().remove_reader(listener)
    await asyncio.sleep(0)


async def abort_connections(port: int) -> None:
    """End all connections to a port of a server that has stopped listening, also those whose TLS handshake has not
    ended, which no server lists. Closing a TLS transport would wait for the peer, perhaps beyond the end of the loop.
    """
    loop = asyncio.get_running_loop()
    for _ in range(3):  # a connection that was just accepted gets its transport meanwhile
        for transport in list(loop._transports.values()):  # type: ignore[attr-defined]  # noqa: SLF001 - no other has all
            if transport.get_extra_info("sockname") == (_ADDRESS, port):
                transport.abort()
        await asyncio.sleep(0)


@dataclass(slots=True)
class Fault:
    """A failure for matching requests: by default a response with this status and body.

    path: a pattern found anywhere in it. delay: before the failure. slow_only: respond as usual after the delay.
    hang: never respond. drop: close the connection. times: how often, counted down; None: always.
    """

    path: str = ".*"
    method: str | None = None
    status: int = 503
    body: str | bytes = ""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: timedelta = timedelta()
    hang: bool = False
    drop: bool = False
    slow_only: bool = False
    times: int | None = None

    def matches(self, request: web.Request) -> bool:
        right_method = self.method is None or self.method == request.method
        return self.times != 0 and right_method and re.search(self.path, request.path) is not None


class Faults:
    """A middleware that injects faults. The first matching one applies."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._fired = False

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults.clear()

    @contextmanager
    def inject(self, fault: Fault) -> Iterator[None]:
        """Apply this fault before all others meanwhile."""
        self._faults.insert(0, fault)
        try:
            yield
        finally:
            self._faults = [one for one in self._faults if one is not fault]

    @property
    def have_fired(self) -> bool:
        """Whether any fault has been applied."""
        return self._fired

    @property
    def middleware(self) -> Middleware:
        @web.middleware
        async def inject(request: web.Request, handler: Handler) -> web.StreamResponse:
            fault = next((one for one in self._faults if one.matches(request)), None)
            if fault is None:
                return await handler(request)
            self._fired = True
            if fault.times is not None:
                fault.times -= 1
            await asyncio.sleep(fault.delay.total_seconds())
            if fault.slow_only:
                return await handler(request)
            if fault.drop and request.transport:
                request.transport.abort()
            if fault.drop or fault.hang:
                # Cancelled when the connection or the server is closed.
                await asyncio.Event().wait()
            body = fault.body.encode() if isinstance(fault.body, str) else fault.body
            return web.Response(
                status=fault.status, body=body, content_type=fault.content_type, headers=dict(fault.headers)
            )

        return inject


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request and the status of its response; 0 if there was none. Without bodies and secret headers. port: of the
    client, so that requests with the same port came over one connection.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    status: int
    port: int


class Journal:
    """A middleware that records every request."""

    def __init__(self) -> None:
        self.requests: list[RecordedRequest] = []

    def count(self, method: str | None = None, path: str = ".*") -> int:
        return sum(1 for one in self.requests if method in {None, one.method} and re.search(path, one.path))

    @property
    def middleware(self) -> Middleware:
        @web.middleware
        async def record(request: web.Request, handler: Handler) -> web.StreamResponse:
            status = 0
            port = request.transport.get_extra_info("peername")[1] if request.transport else 0
            try:
                response = await handler(request)
                status = response.status
            except web.HTTPException as e:
                status = e.status
                raise
            finally:
                headers = {key: value for key, value in request.headers.items() if key.lower() not in _SECRET_HEADERS}
                self.requests.append(
                    RecordedRequest(request.method, request.path, dict(request.query), headers, status, port)
                )
            return response

        return record
