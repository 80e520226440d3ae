"""A response is read whole, however many pieces it has, and cut at the limit."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from local.serving import Server
from pullkeeper import bounded


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async def in_pieces(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(5):
            await response.write(b"piece.")
            await asyncio.sleep(0.01)
        return response

    application = web.Application()
    application.router.add_get("/", in_pieces)
    server = Server(application, authority=None)
    await server.start()
    yield server.url
    await server.stop()


@pytest.mark.parametrize(("limit", "expected"), [(1000, b"piece." * 5), (8, b"piece.pi")])
async def test_a_response_in_pieces_is_read_up_to_the_limit(url: str, limit: int, expected: bytes) -> None:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert await bounded.read(answer, limit) == expected
