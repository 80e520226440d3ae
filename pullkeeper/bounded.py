"""Responses are read to a limit of size: a broken service may send without end."""

import aiohttp


async def read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Read the body, or its first `limit` bytes. aiohttp's own `read(n)` returns what has arrived so far."""
    parts: list[bytes] = []
    while limit and (part := await response.content.read(limit)):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)
