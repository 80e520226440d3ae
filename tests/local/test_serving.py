"""What all stand-ins share: TLS that the strictest client accepts, a journal without secrets, injected faults."""

import asyncio
import contextlib
import gc
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
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


async def test_stopping_waits_neither_for_kept_connections_nor_for_requests_that_hang(stand_in: StandIn) -> None:
    fault = Fault(path="hang", hang=True, times=1)
    stand_in.faults.add(fault)
    await stand_in.send()
    hanging = asyncio.ensure_future(stand_in.send("/things/hang"))
    await _wait_until(lambda: fault.times == 0)

    async with asyncio.timeout(1):
        await stand_in.server.stop()

    with pytest.raises(aiohttp.ClientError):
        await hanging


def test_stopping_closes_connections_that_the_client_keeps_open() -> None:
    """Python warns of every socket that is still open when it is collected, and a warning is an error here."""
    own = Authority()
    trusting = ssl.create_default_context(cadata=own.pem)

    def connect(server: Server) -> ssl.SSLSocket:
        host, _, port = server.host.partition(":")
        return trusting.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host)

    async def serve_and_stop() -> ssl.SSLSocket:
        async with _tls_server(own) as server:
            return await asyncio.to_thread(connect, server)

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with asyncio.run(serve_and_stop()):
            gc.collect()

    assert [str(one.message) for one in warned] == []


async def test_a_server_that_is_started_again_has_the_same_address(stand_in: StandIn) -> None:
    before = stand_in.server.url
    await stand_in.send()
    await stand_in.server.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await stand_in.send()

    await stand_in.server.start()

    assert (before, 200) == (stand_in.server.url, await stand_in.send())


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


async def test_a_fault_applies_to_its_path_and_method_until_cleared(stand_in: StandIn) -> None:
    stand_in.faults.add(Fault(path="/b$", method="GET"))

    statuses = [await stand_in.send("/things/a"), await stand_in.send("/things/b")]
    assert statuses == [200, 503]
    assert await stand_in.send("/things/b", method="POST") == 200
    stand_in.faults.clear()
    assert await stand_in.send("/things/b") == 200


@pytest.mark.parametrize(
    ("fault", "error"), [(Fault(hang=True), TimeoutError), (Fault(drop=True), aiohttp.ClientError)]
)
async def test_a_request_without_a_response_is_recorded_with_status_0(
    stand_in: StandIn, fault: Fault, error: type[Exception]
) -> None:
    stand_in.faults.add(fault)

    # aiohttp's client would repeat a GET.
    with pytest.raises(error):
        await stand_in.send(method="POST", timeout=aiohttp.ClientTimeout(0.2))

    await _wait_until(lambda: stand_in.journal.count() == 1)
    assert stand_in.journal.requests[0].status == 0


async def test_a_delay_comes_before_the_fault_or_before_the_handler(stand_in: StandIn) -> None:
    stand_in.faults.add(Fault(delay=timedelta(seconds=0.1), times=1))
    stand_in.faults.add(Fault(delay=timedelta(seconds=0.1), slow_only=True))
    clock = asyncio.get_running_loop().time
    began = clock()

    assert [await stand_in.send() for _ in range(2)] == [503, 200]
    assert clock() - began >= 0.2


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


async def _wait_until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not reached():  # noqa: ASYNC110 - the server has no event to wait for
            await asyncio.sleep(0.01)
