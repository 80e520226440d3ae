"""A shard as its tables have it, and what a run records: in few writes, and without waiting for what is late."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from pullkeeper.errors import PullkeeperError, StorageUnavailable, UnknownFormat
from pullkeeper.fleet.shard_table import Shards, ShardState
from pullkeeper.fleet.shards import Shard
from pullkeeper.fleet.status import NEVER, Status
from pullkeeper.fleet.table import Fleet, Member, Row
from pullkeeper.model import ClusterId
from pullkeeper.refresh.capacity import Expected
from pullkeeper.refresh.outcomes import Attempt
from pullkeeper.refresh.pending import Pending
from pullkeeper.refresh.results import Results
from pullkeeper.refresh.search import Listing, apply_search
from pullkeeper.refresh.shard_state import next_state

_MEANWHILE: Final = timedelta(seconds=5)
"""Rows that were read longer ago are read again, so that a cluster which left the fleet gets no secret."""
_REPORT_ALL_EVERY: Final = timedelta(hours=1)
_WITHIN: Final = 5.0
_PAUSE: Final = 1.0
"""Seconds: a shard with many clusters is not written again and again, and what has ended is not kept for long."""
_TRIES: Final = 5


class Record:
    """rows: the members of the shard. state: as recorded. results: of all that has been recorded. reports_all: an hour
    has passed since all targets were reported. Methods raise StorageUnavailable.
    """

    def __init__(self, fleet: Fleet, shards: Shards, shard: Shard, clock: Callable[[], datetime]) -> None:
        self.rows: dict[ClusterId, Row] = {}
        self.state = ShardState(shard)
        self.results = Results()
        self.reports_all = False
        self._fleet = fleet
        self._shards = shards
        self._clock = clock
        self._pending = Pending()
        self._searched: dict[ClusterId, Listing | PullkeeperError] = {}
        self._read_at = NEVER
        self._reading = asyncio.Lock()
        self._is_saved = False

    async def open(self) -> None:
        """Read the shard. Raises UnknownFormat for a row of another version."""
        await self._read()
        if not self.state.known:
            raise UnknownFormat(f"the row of shard {self.state.shard} in the table shards")
        self.reports_all = self._clock() - self.state.reported_at >= _REPORT_ALL_EVERY

    async def member(self, cluster: ClusterId) -> Member | None:
        """Return a cluster as it is in the fleet now; None if it has left."""
        if self._clock() - self._read_at > _MEANWHILE:
            async with self._reading:
                if self._clock() - self._read_at > _MEANWHILE:
                    await self._read()
        row = self.rows.get(cluster)
        return row.member if row else None

    def status(self, member: Member) -> Status:
        """Return how the cluster is, with what this run's list of its namespaces has found."""
        cluster = member.cluster
        result = self._searched.get(cluster.cluster)
        return apply_search(self.state.status(cluster.cluster), cluster, result, self._clock())

    def add(self, cluster: ClusterId, attempt: Attempt) -> None:
        """Take what is to be recorded."""
        if attempt.search:
            self._searched[cluster] = attempt.search
        self._pending.add(cluster, attempt)

    async def save_regularly(self, prompt: Expected, ended: asyncio.Event) -> None:
        """Record what has been added: after some seconds, then as soon as the rest is late, and then every second.

        prompt: clusters that have not ended and are not late. ended: all have.
        """
        while not ended.is_set():
            seconds, event = (_PAUSE, ended) if prompt.is_over else (_WITHIN, prompt)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await event.wait()
            if self._pending.attempts:
                await self._save()
        if self._pending.attempts or not self._is_saved:
            await self._save()

    async def _read(self) -> None:
        shard = self.state.shard
        rows, self.state = await asyncio.gather(self._fleet.shard(shard), self._shards.read(shard))
        self.rows = {row.id: row for row in rows}
        self._read_at = self._clock()

    async def _save(self) -> None:
        """Where another writer was quicker, read again what it wrote and who is in the fleet."""
        pending = dict(self._pending.attempts)
        for _ in range(_TRIES):
            before, now = self.state, self._clock()
            reported_at = now if self.reports_all else before.reported_at
            members = [row.member.cluster for row in self.rows.values() if row.member]
            state = replace(next_state(before, members, pending, now), clusters=len(self.rows), reported_at=reported_at)
            if saved := await self._shards.save(state):
                self.state, self._is_saved = saved, True
                self._report(pending, before)
                return
            async with self._reading:
                await self._read()
        raise StorageUnavailable(f"the row of shard {self.state.shard} changed {_TRIES} times in a row")

    def _report(self, recorded: dict[ClusterId, Attempt], before: ShardState) -> None:
        self._pending.remove(recorded)
        for cluster, attempt in recorded.items():
            self.results.report(cluster, attempt, before.status(cluster), self.state.status(cluster))
