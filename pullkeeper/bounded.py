"""Reading answers of services that may have gone mad: to the end, and not for ever."""

import asyncio

import aiohttp


async def read(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    """The whole body, or its first `limit` bytes. aiohttp's own `read(n)` gives what has arrived so far."""
    try:
        return await answer.content.readexactly(limit)
    except asyncio.IncompleteReadError as e:
        return e.partial
