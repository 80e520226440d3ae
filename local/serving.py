"""What every stand-in needs: a certificate authority, a server on a free port, a journal, and faults on demand."""

import asyncio
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import trustme
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

_ADDRESS = "127.0.0.1"
_SECRET_HEADERS = frozenset({"authorization", "x-identity-header", "cookie"})


class Refusal(web.HTTPException):
    """A service's own words for no, in JSON. Raised, it ends a handler."""

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        self.status_code = status
        super().__init__(text=json.dumps(body), content_type="application/json", headers=headers)


class Authority:
    """A certificate authority of this machine, for as long as the process lives."""

    def __init__(self, ca: trustme.CA | None = None) -> None:
        self._ca = ca or trustme.CA()

    @property
    def pem(self) -> str:
        return self._ca.cert_pem.bytes().decode()

    def certificate(self) -> str:
        """Key and chain of a server on this machine, as PEM, for programs that are not Python."""
        return self._ca.issue_cert(_ADDRESS, "localhost").private_key_and_cert_chain_pem.bytes().decode()

    def server_context(self, *hosts: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*(hosts or (_ADDRESS, "localhost"))).configure_cert(context)
        return context


class Server:
    """An application on a port of 127.0.0.1: TLS under the authority, or plain HTTP without one.

    client_ca_pem: client certificates of this CA are verified and asked for, not insisted on. port: 0 for a free one.
    """

    def __init__(
        self, app: web.Application, *, authority: Authority | None, client_ca_pem: str | None = None, port: int = 0
    ) -> None:
        self._app = app
        self._port = port
        self._scheme = "https" if authority else "http"
        self._context = authority.server_context() if authority else None
        if self._context and client_ca_pem:
            self._context.verify_mode = ssl.CERT_OPTIONAL
            self._context.load_verify_locations(cadata=client_ca_pem)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        # Calls that hang on purpose end with the server, and nobody waits for a client to hang up.
        self._runner = web.AppRunner(self._app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, _ADDRESS, self._port, ssl_context=self._context)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening; a later start listens on the same port."""
        if self._runner:
            # An application may be served again after this, so it is not shut down with its runner.
            for site in list(self._runner.sites):
                await site.stop()
            if self._runner.server:
                transports = [one.transport for one in self._runner.server.connections if one.transport]
                await self._runner.server.shutdown(0.1)
                # TLS that is merely closed waits for its peer to say goodbye, longer than the loop may live.
                for transport in transports:
                    transport.abort()
                await asyncio.sleep(0)
            self._runner = None

    @property
    def host(self) -> str:
        return f"{_ADDRESS}:{self._port}"

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self.host}"


@dataclass(slots=True)
class Fault:
    """How to go wrong, for requests that fit.

    path: a pattern found anywhere in it. delay: before whatever comes next. slow_only: then answer as usual.
    hang: never answer. drop: break the connection. times: how often, counted down; None for ever.
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

    def fits(self, request: web.Request) -> bool:
        right_method = self.method is None or self.method == request.method
        return self.times != 0 and right_method and re.search(self.path, request.path) is not None


class Faults:
    """A middleware that goes wrong on demand: an error, a delay, silence, a broken connection."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self._struck = False

    def add(self, fault: Fault) -> None:
        self._rules.append(fault)

    def clear(self) -> None:
        self._rules.clear()

    @property
    def have_fired(self) -> bool:
        """Whether any of them has struck."""
        return self._struck

    @property
    def middleware(self) -> Middleware:
        @web.middleware
        async def faulty(request: web.Request, handler: Handler) -> web.StreamResponse:
            fault = next((rule for rule in self._rules if rule.fits(request)), None)
            if fault is None:
                return await handler(request)
            self._struck = True
            if fault.times is not None:
                fault.times -= 1
            await asyncio.sleep(fault.delay.total_seconds())
            if fault.slow_only:
                return await handler(request)
            if fault.drop and request.transport:
                request.transport.abort()
            if fault.drop or fault.hang:
                # Cancelled when the connection goes, or the server.
                await asyncio.Event().wait()
            body = fault.body.encode() if isinstance(fault.body, str) else fault.body
            return web.Response(
                status=fault.status, body=body, content_type=fault.content_type, headers=dict(fault.headers)
            )

        return faulty


@dataclass(frozen=True, slots=True)
class Seen:
    """One request and the status it was answered with, 0 where there was no answer. No body, and nothing secret."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    status: int


class Journal:
    """A middleware that remembers every request, answered well or not."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []

    def count(self, method: str | None = None, path: str = ".*") -> int:
        return sum(1 for seen in self.requests if method in {None, seen.method} and re.search(path, seen.path))

    @property
    def middleware(self) -> Middleware:
        @web.middleware
        async def journalled(request: web.Request, handler: Handler) -> web.StreamResponse:
            status = 0
            try:
                response = await handler(request)
                status = response.status
            except web.HTTPException as e:
                status = e.status
                raise
            finally:
                headers = {key: value for key, value in request.headers.items() if key.lower() not in _SECRET_HEADERS}
                self.requests.append(Seen(request.method, request.path, dict(request.query), headers, status))
            return response

        return journalled
