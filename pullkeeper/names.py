"""Name look-ups, in threads that nothing else uses: one that hangs must not hold a thread that other work waits for."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

_THREADS: Final = ThreadPoolExecutor(max_workers=96, thread_name_prefix="names")


async def look_up(host: str, port: int | None = None, family: int = socket.AF_UNSPEC) -> list[tuple[Any, ...]]:
    """Return what getaddrinfo returns. Raises OSError, or UnicodeError for what is no name."""
    search = partial(socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM)
    return await asyncio.get_running_loop().run_in_executor(_THREADS, search)
