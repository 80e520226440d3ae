"""Responses are read to a limit of size: a broken service may send without end."""

import asyncio

import aiohttp


async def read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Read the body, or its first `limit` bytes. aiohttp's own `read(n)` returns what has arrived so far."""
    try:
        return await response.content.readexactly(limit)
    except asyncio.IncompleteReadError as e:
        return e.partial
