"""How many API servers a process talks to at once, so that a silent one never takes a place from a healthy one.

A connection costs 0.11 MB while it is open, and an instance may have 512 MB. So there are three bounds. A call begins
in the first; one that takes long moves to the second. A cluster that did not respond last time begins in the third.
Where the second or third is full, the call that has waited longest is closed.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from pullkeeper.errors import ClusterUnreachable
from pullkeeper.model import ClusterId

_SWEEP: Final = 0.05  # seconds
_SLOW: Final = 1.5
"""Times the median of all calls: a busy process is slow for all clusters, and takes none of them for silent."""
_CLOSE_AFTER: Final = 5
"""Times that: to leave the first bound costs a call nothing, to be closed costs it this refresh."""
_TURNS: Final = 2
_STEP: Final = 1.05
_LONGEST_MEDIAN: Final = 2.0


class Capacity:
    """The bounds of a process."""

    def __init__(
        self, prompt: int = 96, slow: int = 384, suspects: int = 64, patience: float = 0.2, longest_turn: float = 5
    ) -> None:
        """prompt, slow, suspects: places. patience: seconds that a call keeps its place in the first bound at least; it
        has five times as long in the others. longest_turn: seconds that a shard may keep others from being read. Were
        all read at once, all would be read again meanwhile.
        """
        self._prompt, self._suspect = asyncio.Semaphore(prompt), asyncio.Semaphore(suspects)
        self.turn = asyncio.Semaphore(_TURNS)
        """For shards: held until the clusters of one have their places, for `longest_turn` at most."""
        self.longest_turn = longest_turn
        self._places = slow
        self._waiting = 0  # suspects
        self._patience = patience
        self._median = patience / _SLOW
        # Since when, the oldest first.
        self._in_prompt: dict[asyncio.Timeout, float] = {}
        self._in_slow: dict[asyncio.Timeout, float] = {}
        self._in_suspect: dict[asyncio.Timeout, float] = {}
        self._when_late: dict[asyncio.Timeout, Callable[[], None]] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def place(
        self,
        *,
        suspect: bool = False,
        when_begun: Callable[[], None] = lambda: None,
        when_late: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[Callable[[], None]]:
        """Hold a place. Yields a function to call at each response of a cluster that is called several times: its time
        starts again. suspect: the cluster did not respond last time. when_begun: called once there is a place.
        when_late: called if the call leaves the first bound before it has ended. Raises ClusterUnreachable when the
        call was closed to make room.
        """
        bound, calls = (self._suspect, self._in_suspect) if suspect else (self._prompt, self._in_prompt)
        loop = asyncio.get_running_loop()
        self._waiting += suspect
        try:
            await bound.acquire()
        finally:
            self._waiting -= suspect
        limit = asyncio.timeout(None)
        calls[limit] = began = loop.time()
        self._when_late[limit] = when_late
        when_begun()
        self._sweeper = self._sweeper or loop.call_later(_SWEEP, self._sweep)
        try:
            async with limit:
                yield partial(self._renew, limit)
        except TimeoutError:
            if not limit.expired():
                raise
            raise ClusterUnreachable("no response while other clusters waited for the connection") from None
        finally:
            if calls.pop(limit, None):
                bound.release()
            self._in_slow.pop(limit, None)
            del self._when_late[limit]
            if not limit.expired():
                self._count(loop.time() - began)

    def _renew(self, limit: asyncio.Timeout) -> None:
        for calls in (self._in_prompt, self._in_slow, self._in_suspect):
            if calls.pop(limit, None):
                calls[limit] = asyncio.get_running_loop().time()  # behind the others: the oldest come first

    def _count(self, seconds: float) -> None:
        """Move the median a step towards how long a call took."""
        median = self._median * (_STEP if seconds > self._median else 1 / _STEP)
        self._median = min(max(median, self._patience / _SLOW), _LONGEST_MEDIAN)

    def _sweep(self) -> None:
        """Move calls that take long out of the first bound, and close the oldest where others wait."""
        now = asyncio.get_running_loop().time()
        patience = _SLOW * self._median
        late = [limit for limit, since in self._in_prompt.items() if now - since > patience]
        for limit in late[: self._places - len(self._in_slow)]:
            del self._in_prompt[limit]
            self._in_slow[limit] = now
            self._prompt.release()
            self._when_late[limit]()
        if len(self._in_slow) == self._places:
            _close(self._in_slow, len(late), now - _CLOSE_AFTER * patience)
        _close(self._in_suspect, self._waiting, now - _CLOSE_AFTER * patience)
        busy = self._in_prompt or self._in_slow or self._in_suspect
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP, self._sweep) if busy else None


class Expected:
    """The clusters of a shard of which something is still expected. `wait` lasts until the last one has left."""

    def __init__(self) -> None:
        self._clusters: set[ClusterId] = set()
        self._over = asyncio.Event()

    def expect(self, clusters: Iterable[ClusterId]) -> None:
        self._clusters.update(clusters)
        self._end_if_over()

    def leave(self, cluster: ClusterId) -> None:
        self._clusters.discard(cluster)
        self._end_if_over()

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    async def wait(self) -> None:
        await self._over.wait()

    def _end_if_over(self) -> None:
        if not self._clusters:
            self._over.set()


def _close(calls: dict[asyncio.Timeout, float], most: int, since: float) -> None:
    """Close the oldest calls of those that began before a time."""
    for limit, began in list(calls.items())[:most]:
        if began < since and not limit.expired():
            limit.reschedule(0)
