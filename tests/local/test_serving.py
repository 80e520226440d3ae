"""What all stand-ins share: TLS that the strictest client accepts, a journal without secrets, injected faults."""

import asyncio
import gc
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import pytest
from aiohttp import web

from local.serving import Authority, Fault, Faults, Journal, Server


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session:
        yield session


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_certificates_pass_the_strict_checks_of_python_3_13(session: aiohttp.ClientSession, host: str) -> None:
    own = Authority()
    strict = ssl.create_default_context(cadata=own.pem)
    strict.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    server = Server(web.Application(), authority=own)
    await server.start()
    async with session.get(server.url.replace("127.0.0.1", host), ssl=strict) as response:
        assert response.status == 404
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await session.get(server.url, ssl=ssl.create_default_context(cadata=Authority().pem))
    await server.stop()


async def test_a_connection_whose_handshake_has_not_ended_ends_with_the_server() -> None:
    """Else it would be found, and reported, in a later test."""
    server = Server(web.Application(), authority=Authority())
    await server.start()
    reader, writer = await asyncio.open_connection(*server.host.split(":"))
    await asyncio.sleep(0.05)
    await server.stop()
    with suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("turns", range(5))
async def test_a_connection_that_the_loop_has_just_accepted_ends_with_the_server(turns: int) -> None:
    server = Server(web.Application(), authority=Authority())
    await server.start()
    host, port = server.host.split(":")
    with socket.create_connection((host, int(port))) as client:
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.stop()
        client.settimeout(5)
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""
    gc.collect()  # a socket that is left fails the test


async def test_faults_respond_in_turn_and_the_journal_has_each_request_without_its_secrets(
    session: aiohttp.ClientSession,
) -> None:
    journal, faults = Journal(), Faults()
    server = Server(web.Application(middlewares=[journal.middleware, faults.middleware]), authority=None)
    await server.start()
    faults.add(Fault(status=429, body="slow", content_type="text/plain", headers={"Retry-After": "7"}, times=1))
    faults.add(Fault(path="/a$", method="GET", status=502, times=1))
    secret = "canary-5eed"
    headers = {"Authorization": f"Bearer {secret}", "X-IDENTITY-HEADER": secret, "Cookie": secret, "X-Kept": "yes"}
    assert not faults.have_fired

    found = []
    for path in ("/a?x=1", "/b", "/a", "/a"):
        async with session.get(server.url + path, data=secret, headers=headers) as response:
            found.append((response.status, response.content_type, response.headers.get("Retry-After")))
    await server.stop()

    assert found[0] == (429, "text/plain", "7")
    assert [(one.path, one.status) for one in journal.requests] == [("/a", 429), ("/b", 404), ("/a", 502), ("/a", 404)]
    assert (journal.requests[0].query, journal.requests[0].headers["X-Kept"]) == ({"x": "1"}, "yes")
    assert (journal.count("GET", "^/a"), journal.count("POST"), faults.have_fired) == (3, 0, True)
    assert secret not in repr(journal.requests)
