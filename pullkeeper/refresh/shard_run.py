"""One run over a shard: pick what is due, write it, and record outcomes while silent clusters are still waited for."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from pullkeeper import telemetry
from pullkeeper.deadline import reserve
from pullkeeper.errors import ClusterUnreachable, PullkeeperError, StorageUnavailable, UnknownFormat
from pullkeeper.fleet import storage
from pullkeeper.fleet.queues import RefreshMessage
from pullkeeper.fleet.shard_table import Shards, ShardState
from pullkeeper.fleet.status import NEVER, Status
from pullkeeper.fleet.table import Fleet, Member, Row
from pullkeeper.model import ClusterId, Target
from pullkeeper.publisher.hub import Hub
from pullkeeper.refresh.attempt import Writer
from pullkeeper.refresh.capacity import Capacity, Turn
from pullkeeper.refresh.due import is_search_due, pick_due
from pullkeeper.refresh.lanes import Watch
from pullkeeper.refresh.outcomes import Attempt, Fresh, Outcome
from pullkeeper.refresh.pending import Pending
from pullkeeper.refresh.results import Results
from pullkeeper.refresh.search import Listing, apply_search
from pullkeeper.refresh.shard_state import next_state
from pullkeeper.tokens import Token

_BUDGET: Final = timedelta(minutes=1)
"""A fifth of `functionTimeout`: after that no cluster is begun, and the rest is left to a further message."""
_MEANWHILE: Final = timedelta(seconds=2)
"""Rows that were read longer ago are read again, so that a cluster which left the fleet gets no secret."""
_REPORT_ALL_EVERY: Final = timedelta(hours=1)
_SAVE_EVERY: Final = 1.0  # seconds
_SAVE_TRIES: Final = 5
_TURN: Final = 1.0
"""Seconds that a shard may keep others from being read. Were all read at once, all would be read again meanwhile."""


class ShardRun:
    """Refreshes what a message asks for.

    began: when. state: the shard as recorded. results: of all that has been recorded. unfinished: there was no time for
    all. reports_all: an hour has passed since all targets were reported.
    """

    def __init__(
        self,
        fleet: Fleet,
        shards: Shards,
        writer: Writer,
        capacity: Capacity,
        message: RefreshMessage,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self.rows: dict[ClusterId, Row] = {}
        self.state = ShardState(message.shard)
        self.results = Results()
        self.unfinished = self.reports_all = False
        self._fleet = fleet
        self._shards = shards
        self._writer = writer
        self._capacity = capacity
        self._clock = clock
        self._message = message
        self._pending = Pending()
        self._searched: dict[ClusterId, Listing | PullkeeperError] = {}
        self.began = clock()
        self._read_at = NEVER
        self._reading = asyncio.Lock()
        self._turn = Turn()

    async def work(self) -> None:
        """Refresh what is due, and record it. Raises StorageUnavailable; UnknownFormat for a row of another version."""
        ended = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                async with self._capacity.turn:
                    await self._read()
                    if not self.state.known:
                        raise UnknownFormat(f"the row of shard {self._message.shard} in the table shards")
                    self.reports_all = self._clock() - self.state.reported_at >= _REPORT_ALL_EVERY
                    group.create_task(self._save_regularly(ended))
                    with reserve(2 * storage.CALL):  # to record what has ended
                        refreshing = group.create_task(self._refresh_all())
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_TURN):
                            await self._turn.wait()
                await refreshing
                ended.set()
        except ExceptionGroup as failed:
            raise _first(failed) from None

    async def _refresh_all(self) -> None:
        members = [row.member for row in self.rows.values() if row.member]
        due = [member for member in members if self._due(member) or self._is_search_due(member)]
        self._turn.expect(member.cluster.cluster for member in due)
        async with asyncio.TaskGroup() as group:
            for member in due:
                group.create_task(self._refresh(member))

    def _status(self, member: Member) -> Status:
        """Return how the cluster is, with what this run's list of its namespaces has found."""
        cluster = member.cluster
        result = self._searched.get(cluster.cluster)
        return apply_search(self.state.status(cluster.cluster), cluster, result, self._clock())

    def _due(self, member: Member) -> Sequence[Target]:
        return pick_due(self._message, member.cluster, self._status(member), self._clock())

    def _is_search_due(self, member: Member) -> bool:
        return is_search_due(self._message, member.cluster, self._status(member), self._clock())

    async def _refresh(self, member: Member) -> None:
        if self._is_search_due(member):
            await self._search(member)
        if targets := self._due(member):
            await self._refresh_targets(member, targets)

    async def _search(self, member: Member) -> None:
        """List the namespaces of a cluster: in a place of its own, because a mint may come before a write."""
        cluster, status = member.cluster.cluster, self._status(member)
        suspect = status.search is not None and status.search.category == ClusterUnreachable.category
        attempt = Attempt({})
        try:
            async with self._capacity.place(suspect=suspect):
                self._turn.begin(cluster)
                if self._has_time():
                    attempt = await self._writer.search(member, status)
        except ClusterUnreachable as e:
            attempt = Attempt({}, search=e.with_context(cluster=str(cluster)))
        except Exception as e:  # noqa: BLE001 - as below
            attempt = Attempt({}, search=telemetry.report_unexpected("search", e))
        if attempt.search:
            self._searched[cluster] = attempt.search
            self._pending.add(cluster, attempt)

    async def _refresh_targets(self, member: Member, targets: Sequence[Target]) -> None:
        cluster = member.cluster.cluster
        status = self._status(member)
        suspect = all(status.of(target).category == ClusterUnreachable.category for target in targets)
        if suspect:
            self._turn.begin(cluster)  # the next shard's turn does not wait for it
        try:
            if member.cluster.refresher == "in-cluster":
                async with self._capacity.place(suspect=suspect):
                    self._turn.begin(cluster)
                    attempt = await self._observe(member)
            else:
                # The token first: nothing waits for a mint in the place of a cluster.
                # Manual: the token that is held may be the reason.
                probed_since = self.began if self._message.reason == "manual" else None
                hub, token = await self._writer.token(member.cluster, status, probed_since)
                async with self._capacity.place(suspect=suspect) as renew:
                    self._turn.begin(cluster)
                    attempt = await self._write(member, hub, token, renew)
        except StorageUnavailable:
            raise
        except PullkeeperError as e:
            attempt = Attempt(dict.fromkeys(targets, e.with_context(cluster=str(cluster))))
        except Exception as e:  # noqa: BLE001 - a bug at one cluster must not end the run of the others
            attempt = Attempt(dict.fromkeys(targets, telemetry.report_unexpected("refresh", e)))
        finally:
            self._turn.begin(cluster)
        if attempt:
            self._pending.add(cluster, attempt)

    def _note(self, cluster: ClusterId, renew: Callable[[], None], target: Target, outcome: Outcome) -> None:
        """Have a success recorded while others are waited for. A failure may be tried again at another address."""
        renew()
        if isinstance(outcome, Fresh):
            self._pending.add(cluster, Attempt({target: outcome}))

    def _has_time(self) -> bool:
        """Whether another cluster, or target, may be begun; if not, a further message takes the rest."""
        late = self._clock() - self.began > _BUDGET
        self.unfinished |= late
        return not late

    async def _write(self, member: Member, hub: Hub, token: Token, renew: Callable[[], None]) -> Attempt | None:
        """Return None where nothing is left to do: the cluster left the fleet, another run was quicker, no time."""
        current, targets = await self._current(member)
        if not current:
            return None
        status, thorough = self._status(current), self._message.reason == "manual"
        watch = Watch(self._has_time, partial(self._note, member.cluster.cluster, renew))
        return await self._writer.write(current, targets, status, hub, token, thorough=thorough, watch=watch)

    async def _observe(self, member: Member) -> Attempt | None:
        current, targets = await self._current(member)
        return await self._writer.observe(current, targets) if current else None

    async def _current(self, member: Member) -> tuple[Member | None, Sequence[Target]]:
        """Return the cluster as it is in the fleet now, and its targets that are still due; None if there are none."""
        if not self._has_time():
            return None, ()
        async with self._reading:
            if self._clock() - self._read_at > _MEANWHILE:
                await self._read()
        row = self.rows.get(member.cluster.cluster)
        targets = self._due(row.member) if row and row.member else ()
        return (row.member if row and targets else None), targets

    async def _read(self) -> None:
        rows, self.state = await asyncio.gather(
            self._fleet.shard(self._message.shard), self._shards.read(self._message.shard)
        )
        self.rows = {row.id: row for row in rows}
        self._read_at = self._clock()

    async def _save_regularly(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            try:
                async with asyncio.timeout(_SAVE_EVERY):
                    await ended.wait()
            except TimeoutError:
                if self._pending.attempts:
                    await self._save()
        await self._save()  # also what ended during the save before

    async def _save(self) -> None:
        """Record what has ended. Where another writer was quicker, read again what it wrote and who is in the fleet."""
        pending = dict(self._pending.attempts)
        for _ in range(_SAVE_TRIES):
            before, now = self.state, self._clock()
            reported_at = now if self.reports_all else before.reported_at
            members = [row.member.cluster for row in self.rows.values() if row.member]
            state = replace(next_state(before, members, pending, now), clusters=len(self.rows), reported_at=reported_at)
            if saved := await self._shards.save(state):
                self.state = saved
                self._report(pending, before)
                return
            async with self._reading:
                await self._read()
        raise StorageUnavailable(f"the row of shard {self._message.shard} changed {_SAVE_TRIES} times in a row")

    def _report(self, recorded: dict[ClusterId, Attempt], before: ShardState) -> None:
        self._pending.remove(recorded)
        for cluster, attempt in recorded.items():
            self.results.report(cluster, attempt, before.status(cluster), self.state.status(cluster))


def _first(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error in a group of groups."""
    first = failed.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
