"""What every stand-in has: TLS that the strictest client accepts, a journal without secrets, faults on demand."""

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
import trustme
from aiohttp import web

from local.serving import Authority, Fault, Faults, Journal, Seen, Server


class Part:
    """A server with one route, its journal and its faults, and a session that trusts it."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.journal, self.faults = Journal(), Faults()
        self.application = web.Application(middlewares=[self.journal.middleware, self.faults.middleware])
        self.application.router.add_route("*", "/things/{name}", self._thing)
        self.server = Server(self.application, authority=None)
        self._session = session

    async def _thing(self, request: web.Request) -> web.Response:
        if request.match_info["name"] == "teapot":
            raise web.HTTPBadRequest(text="no tea")
        return web.json_response({"name": request.match_info["name"]})

    async def get(self, path: str = "/things/a", **options: Any) -> tuple[int, str]:
        return await self.call("GET", path, **options)

    async def call(self, method: str, path: str = "/things/a", **options: Any) -> tuple[int, str]:
        async with self._session.request(method, self.server.url + path, **options) as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session:
        yield session


@pytest.fixture
async def part(session: aiohttp.ClientSession) -> AsyncIterator[Part]:
    part = Part(session)
    await part.server.start()
    yield part
    await part.server.stop()


async def _peer(request: web.Request) -> web.Response:
    assert request.transport is not None
    certificate = request.transport.get_extra_info("peercert") or {}
    names = {key: value for part in certificate.get("subject", ()) for key, value in part}
    return web.json_response(names)


@pytest.fixture
def clients() -> trustme.CA:
    return trustme.CA()


@contextlib.asynccontextmanager
async def _mutual(own: Authority, clients: trustme.CA) -> AsyncIterator[Server]:
    application = web.Application()
    application.router.add_get("/", _peer)
    server = Server(application, authority=own, client_ca_pem=clients.cert_pem.bytes().decode())
    await server.start()
    yield server
    await server.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_certificates_pass_the_strict_checks_of_python_3_13(session: aiohttp.ClientSession, host: str) -> None:
    own = Authority()
    strict = ssl.create_default_context(cadata=own.pem)
    strict.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    async with _mutual(own, trustme.CA()) as server:
        url = server.url.replace("127.0.0.1", host)

        async with session.get(url, ssl=strict) as answer:
            assert answer.status == 200


async def test_another_ca_is_no_good(session: aiohttp.ClientSession) -> None:
    async with _mutual(Authority(), trustme.CA()) as server:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(server.url, ssl=ssl.create_default_context(cadata=Authority().pem))


async def test_a_client_certificate_is_verified_and_shown_to_the_handler(
    session: aiohttp.ClientSession, clients: trustme.CA
) -> None:
    own = Authority()
    context = ssl.create_default_context(cadata=own.pem)
    clients.issue_cert("a@b", common_name="masterclient", organization_name="system:masters").configure_cert(context)
    async with _mutual(own, clients) as server, session.get(server.url, ssl=context) as answer:
        peer = await answer.json()

    assert (peer["commonName"], peer["organizationName"]) == ("masterclient", "system:masters")


async def test_a_client_without_a_certificate_is_let_in_as_nobody(
    session: aiohttp.ClientSession, clients: trustme.CA
) -> None:
    own = Authority()
    async with (
        _mutual(own, clients) as server,
        session.get(server.url, ssl=ssl.create_default_context(cadata=own.pem)) as answer,
    ):
        assert await answer.json() == {}


async def test_a_client_certificate_of_another_ca_is_refused(
    session: aiohttp.ClientSession, clients: trustme.CA
) -> None:
    own = Authority()
    context = ssl.create_default_context(cadata=own.pem)
    trustme.CA().issue_cert("a@b", common_name="masterclient").configure_cert(context)
    async with _mutual(own, clients) as server:
        with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
            await session.get(server.url, ssl=context)


async def test_stopping_waits_neither_for_kept_connections_nor_for_calls_that_hang(part: Part) -> None:
    fault = Fault(path="hang", hang=True, times=1)
    part.faults.add(fault)
    await part.get()
    hanging = asyncio.ensure_future(part.get("/things/hang"))
    await _until(lambda: fault.times == 0)

    async with asyncio.timeout(1):
        await part.server.stop()

    with pytest.raises(aiohttp.ClientError):
        await hanging


def test_stopping_leaves_no_connection_to_a_client_that_keeps_its_end_open() -> None:
    """Python warns of every socket that was left open when it is collected, and a warning is an error here."""
    own = Authority()
    trusting = ssl.create_default_context(cadata=own.pem)

    def connect(server: Server) -> ssl.SSLSocket:
        host, _, port = server.host.partition(":")
        return trusting.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host)

    async def serve_and_stop() -> ssl.SSLSocket:
        async with _mutual(own, trustme.CA()) as server:
            return await asyncio.to_thread(connect, server)

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with asyncio.run(serve_and_stop()):
            gc.collect()

    assert [str(one.message) for one in warned] == []


async def test_a_server_that_is_started_again_answers_at_the_same_address(part: Part) -> None:
    before = part.server.url
    await part.get()
    await part.server.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await part.get()

    await part.server.start()

    assert (before, (200, '{"name": "a"}')) == (part.server.url, await part.get())


async def test_a_fault_answers_in_place_of_the_handler_as_often_as_it_is_told(part: Part) -> None:
    part.faults.add(
        Fault(status=429, body="slow down", content_type="text/plain", headers={"Retry-After": "7"}, times=2)
    )

    async with aiohttp.ClientSession() as session, session.get(f"{part.server.url}/things/a") as answer:
        first = answer.status, await answer.text(), answer.headers["Retry-After"], answer.content_type

    assert first == (429, "slow down", "7", "text/plain")
    assert [(await part.get())[0] for _ in range(3)] == [429, 200, 200]


async def test_a_fault_hits_the_paths_and_methods_it_names(part: Part) -> None:
    part.faults.add(Fault(path="/b$", method="GET"))

    assert [(await part.get("/things/a"))[0], (await part.get("/things/b"))[0]] == [200, 503]
    assert (await part.call("POST", "/things/b"))[0] == 200


async def test_a_fault_that_was_used_up_leaves_the_next_one_its_turn(part: Part) -> None:
    part.faults.add(Fault(status=500, times=1))
    part.faults.add(Fault(status=502, times=1))

    assert [(await part.get())[0] for _ in range(3)] == [500, 502, 200]


async def test_cleared_faults_are_gone(part: Part) -> None:
    part.faults.add(Fault())
    part.faults.clear()

    assert (await part.get())[0] == 200


async def test_a_hanging_call_never_answers_and_goes_with_its_client(part: Part) -> None:
    part.faults.add(Fault(hang=True, times=1))

    with pytest.raises(TimeoutError):
        await part.get(timeout=aiohttp.ClientTimeout(0.1))

    await _until(lambda: part.journal.count() == 1)
    assert part.journal.requests[0].status == 0


async def test_a_dropped_connection_breaks_without_a_word(part: Part) -> None:
    part.faults.add(Fault(drop=True))

    # aiohttp's client would try a GET again.
    with pytest.raises(aiohttp.ClientError):
        await part.call("POST")

    await _until(lambda: part.journal.count() == 1)
    assert part.journal.requests[0].status == 0


async def test_a_delay_comes_before_the_answer_of_the_fault_or_of_the_handler(part: Part) -> None:
    part.faults.add(Fault(delay=timedelta(seconds=0.1), times=1))
    part.faults.add(Fault(delay=timedelta(seconds=0.1), slow_only=True))
    clock = asyncio.get_running_loop().time
    began = clock()

    assert [(await part.get())[0] for _ in range(2)] == [503, 200]
    assert clock() - began >= 0.2


async def test_the_journal_has_every_request_and_how_it_was_answered(part: Part) -> None:
    part.faults.add(Fault(path="faulty", status=500))

    for path in ("/things/a?x=1", "/things/faulty", "/things/teapot", "/nothing"):
        await part.get(path)

    seen = part.journal.requests
    assert [(one.path, one.status) for one in seen] == [
        ("/things/a", 200),
        ("/things/faulty", 500),
        ("/things/teapot", 400),
        ("/nothing", 404),
    ]
    assert seen[0].query == {"x": "1"}
    assert part.journal.count("GET", "^/things/") == 3
    assert part.journal.count("POST") == 0


async def test_the_journal_keeps_no_credentials_and_no_bodies(part: Part) -> None:
    canary = "canary-5eed"
    headers = {"Authorization": f"Bearer {canary}", "X-IDENTITY-HEADER": canary, "Cookie": canary, "X-Kept": "yes"}

    await part.call("POST", data=canary, headers=headers)

    assert canary not in repr(part.journal.requests)
    assert isinstance(part.journal.requests[0], Seen)
    assert part.journal.requests[0].headers["X-Kept"] == "yes"


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not true():  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
