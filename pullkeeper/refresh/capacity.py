"""How many API servers a process talks to at once, so that a silent one never takes a place from a healthy one.

A connection costs 0.35 MB while it is open (asyncio allocates 256 KiB to read TLS), and an instance may have 512 MB. So
there are two bounds. A call begins in the first; after a few seconds it moves to the second. Where that is full, the
call that has waited longest is cancelled. A cluster that did not respond last time begins in the second.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from pullkeeper.errors import ClusterUnreachable

T = TypeVar("T")


class Capacity:
    """The two bounds of a process."""

    def __init__(self, prompt: int = 64, slow: int = 64, patience: float = 2.0) -> None:
        """prompt, slow: places. patience: seconds that a call may keep its place in the first bound, and that it has at
        least in the second.
        """
        self._prompt = asyncio.Semaphore(prompt)
        self._places = slow
        self._patience = patience
        self._slow: dict[asyncio.Task[Any], float] = {}  # since when, the oldest first

    async def run(self, call: Coroutine[Any, Any, T], *, suspect: bool = False) -> T:
        """Run a call within the bounds. suspect: it did not respond last time. Raises ClusterUnreachable when it was
        cancelled to make room, and whatever the call raises.
        """
        task: asyncio.Task[T] | None = None
        try:
            if suspect:
                await self._make_room()
                task = asyncio.create_task(call)
            else:
                async with self._prompt:
                    task = asyncio.create_task(call)
                    await asyncio.wait({task}, timeout=self._patience)
                if task.done():
                    return task.result()
                await self._make_room()
            self._slow[task] = asyncio.get_running_loop().time()
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if task and task.cancelled() and current and not current.cancelling():
                raise ClusterUnreachable("no response while other clusters waited for the connection") from None
            raise
        finally:
            if task is None:
                call.close()
            else:
                self._slow.pop(task, None)
                task.cancel()

    async def _make_room(self) -> None:
        """Wait until the second bound has a place, or cancel the call that has had its time longest."""
        while len(self._slow) >= self._places:
            oldest, since = next(iter(self._slow.items()))
            left = since + self._patience - asyncio.get_running_loop().time()
            if left > 0:
                await asyncio.sleep(left)
            elif self._slow.pop(oldest, None):
                oldest.cancel()
