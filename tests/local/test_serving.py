"""What all stand-ins share: TLS that the strictest client accepts, a journal without secrets, injected faults."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from local.serving import Authority, Fault, Faults, Journal, Server


class StandIn:
    """A server with one route, its journal and its faults, and a client session."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.journal, self.faults = Journal(), Faults()
        application = web.Application(middlewares=[self.journal.middleware, self.faults.middleware])
        application.router.add_route("*", "/things/{name}", self._respond)
        self.server = Server(application, authority=None)
        self._session = session

    async def _respond(self, request: web.Request) -> web.Response:
        if request.match_info["name"] == "teapot":
            raise web.HTTPBadRequest(text="no tea")
        return web.json_response({"name": request.match_info["name"]})

    async def send(self, path: str = "/things/a", *, method: str = "GET", **options: Any) -> int:
        async with self._session.request(method, self.server.url + path, **options) as response:
            return response.status


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session:
        yield session


@pytest.fixture
async def stand_in(session: aiohttp.ClientSession) -> AsyncIterator[StandIn]:
    stand_in = StandIn(session)
    await stand_in.server.start()
    yield stand_in
    await stand_in.server.stop()


@contextlib.asynccontextmanager
async def _tls_server(authority: Authority) -> AsyncIterator[Server]:
    server = Server(web.Application(), authority=authority)
    await server.start()
    yield server
    await server.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_certificates_pass_the_strict_checks_of_python_3_13(session: aiohttp.ClientSession, host: str) -> None:
    own = Authority()
    strict = ssl.create_default_context(cadata=own.pem)
    strict.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    async with _tls_server(own) as server:
        async with session.get(server.url.replace("127.0.0.1", host), ssl=strict) as response:
            assert response.status == 404
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(server.url, ssl=ssl.create_default_context(cadata=Authority().pem))


async def test_a_fault_responds_in_place_of_the_handler(stand_in: StandIn, session: aiohttp.ClientSession) -> None:
    """As often as its `times`; then the next one applies."""
    stand_in.faults.add(
        Fault(status=429, body="slow", content_type="text/plain", headers={"Retry-After": "7"}, times=1)
    )
    stand_in.faults.add(Fault(status=502, times=1))
    assert not stand_in.faults.have_fired

    async with session.get(f"{stand_in.server.url}/things/a") as response:
        first = response.status, await response.text(), response.headers["Retry-After"], response.content_type

    assert first == (429, "slow", "7", "text/plain")
    assert [await stand_in.send() for _ in range(2)] == [502, 200]
    assert stand_in.faults.have_fired


async def test_the_journal_has_every_request_with_its_status_and_no_secret(stand_in: StandIn) -> None:
    secret = "canary-5eed"
    headers = {"Authorization": f"Bearer {secret}", "X-IDENTITY-HEADER": secret, "Cookie": secret, "X-Kept": "yes"}
    stand_in.faults.add(Fault(path="faulty", status=500))

    for path in ("/things/a?x=1", "/things/faulty", "/things/teapot", "/nothing"):
        await stand_in.send(path, data=secret, headers=headers)

    requests = stand_in.journal.requests
    assert [(one.path, one.status) for one in requests] == [
        ("/things/a", 200),
        ("/things/faulty", 500),
        ("/things/teapot", 400),
        ("/nothing", 404),
    ]
    assert (requests[0].query, requests[0].headers["X-Kept"]) == ({"x": "1"}, "yes")
    assert (stand_in.journal.count("GET", "^/things/"), stand_in.journal.count("POST")) == (3, 0)
    assert secret not in repr(requests)
