"""One run over a shard: pick what is due, write it, and record outcomes while silent clusters are still waited for."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from pullkeeper import telemetry
from pullkeeper.deadline import reserve
from pullkeeper.errors import ClusterUnreachable, PullkeeperError, StorageUnavailable
from pullkeeper.fleet import storage
from pullkeeper.fleet.queues import RefreshMessage
from pullkeeper.fleet.table import Member
from pullkeeper.model import ClusterId, Target
from pullkeeper.publisher.hub import Hub
from pullkeeper.refresh.attempt import Writer
from pullkeeper.refresh.capacity import Capacity, Expected
from pullkeeper.refresh.due import is_search_due, pick_due
from pullkeeper.refresh.lanes import Watch
from pullkeeper.refresh.outcomes import Attempt, Fresh, Outcome
from pullkeeper.refresh.record import Record
from pullkeeper.tokens import Token

_BUDGET: Final = timedelta(minutes=1)
"""A fifth of `functionTimeout`: after that no cluster is begun, and the rest is left to a further message."""


class ShardRun:
    """Refreshes what a message asks for.

    began: when. record: the shard, and what has been recorded. unfinished: there was no time for all.
    """

    def __init__(
        self, record: Record, writer: Writer, capacity: Capacity, message: RefreshMessage, clock: Callable[[], datetime]
    ) -> None:
        self.began = clock()
        self.record = record
        self.unfinished = False
        self._writer = writer
        self._capacity = capacity
        self._clock = clock
        self._message = message
        self._waiting = Expected()  # for a place
        self._prompt = Expected()  # to end, before they are late

    async def work(self) -> None:
        """Refresh what is due, and record it. Raises StorageUnavailable; UnknownFormat for a row of another version."""
        ended = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                async with self._capacity.turn:
                    await self.record.open()
                    group.create_task(self.record.save_regularly(self._prompt, ended))
                    with reserve(2 * storage.CALL):  # to record what has ended
                        refreshing = group.create_task(self._refresh_all())
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._capacity.longest_turn):
                            await self._waiting.wait()
                await refreshing
                ended.set()
        except ExceptionGroup as failed:
            raise _first(failed) from None

    async def _refresh_all(self) -> None:
        due = []
        for row in self.record.rows.values():
            if member := row.member:
                targets, has_search = self._due(member), self._is_search_due(member)
                if targets or has_search:
                    due.append((member, targets, has_search))
        for expected in (self._waiting, self._prompt):
            expected.expect(member.cluster.cluster for member, _, _ in due)
        async with asyncio.TaskGroup() as group:
            for one in due:
                group.create_task(self._refresh(*one))

    def _due(self, member: Member) -> Sequence[Target]:
        return pick_due(self._message, member.cluster, self.record.status(member), self._clock())

    def _is_search_due(self, member: Member) -> bool:
        return is_search_due(self._message, member.cluster, self.record.status(member), self._clock())

    async def _refresh(self, member: Member, targets: Sequence[Target], has_search: bool) -> None:  # noqa: FBT001 - of a tuple
        try:
            if has_search:
                await self._search(member)
                targets = self._due(member)
            if targets:
                await self._refresh_targets(member, targets)
        finally:
            self._prompt.leave(member.cluster.cluster)

    async def _search(self, member: Member) -> None:
        """List the namespaces of a cluster: in a place of its own, because a mint may come before a write."""
        cluster, status = member.cluster.cluster, self.record.status(member)
        suspect = status.search is not None and status.search.category == ClusterUnreachable.category
        attempt = Attempt({})
        try:
            async with self._place(cluster, suspect=suspect):
                if self._has_time():
                    attempt = await self._writer.search(member, status)
        except ClusterUnreachable as e:
            attempt = Attempt({}, search=e.with_context(cluster=str(cluster)))
        except Exception as e:  # noqa: BLE001 - as below
            attempt = Attempt({}, search=telemetry.report_unexpected("search", e))
        if attempt.search:
            self.record.add(cluster, attempt)

    async def _refresh_targets(self, member: Member, targets: Sequence[Target]) -> None:
        cluster = member.cluster.cluster
        status = self.record.status(member)
        suspect = all(status.of(target).category == ClusterUnreachable.category for target in targets)
        if suspect:
            self._waiting.leave(cluster)  # the next shard's turn does not wait for it
        try:
            if member.cluster.refresher == "in-cluster":
                async with self._place(cluster, suspect=suspect):
                    attempt = await self._observe(member, targets)
            else:
                # The token first: nothing waits for a mint in the place of a cluster.
                # Manual: the token that is held may be the reason.
                probed_since = self.began if self._message.reason == "manual" else None
                hub, token = await self._writer.token(member.cluster, status, probed_since)
                async with self._place(cluster, suspect=suspect) as renew:
                    attempt = await self._write(member, targets, hub, token, renew)
        except StorageUnavailable:
            raise
        except PullkeeperError as e:
            attempt = Attempt(dict.fromkeys(targets, e.with_context(cluster=str(cluster))))
        except Exception as e:  # noqa: BLE001 - a bug at one cluster must not end the run of the others
            attempt = Attempt(dict.fromkeys(targets, telemetry.report_unexpected("refresh", e)))
        finally:
            self._waiting.leave(cluster)
        if attempt:
            self.record.add(cluster, attempt)

    def _place(self, cluster: ClusterId, *, suspect: bool) -> AbstractAsyncContextManager[Callable[[], None]]:
        """Hold a place, as `Capacity.place`. What has ended is recorded without waiting for a cluster that is late."""
        if suspect:
            self._prompt.leave(cluster)
        begun, late = partial(self._waiting.leave, cluster), partial(self._prompt.leave, cluster)
        return self._capacity.place(suspect=suspect, when_begun=begun, when_late=late)

    def _note(self, cluster: ClusterId, renew: Callable[[], None], target: Target, outcome: Outcome) -> None:
        """Have a success recorded while others are waited for. A failure may be tried again at another address."""
        renew()
        if isinstance(outcome, Fresh):
            self.record.add(cluster, Attempt({target: outcome}))

    def _has_time(self) -> bool:
        """Whether another cluster, or target, may be begun; if not, a further message takes the rest."""
        late = self._clock() - self.began > _BUDGET
        self.unfinished |= late
        return not late

    async def _write(
        self, member: Member, targets: Sequence[Target], hub: Hub, token: Token, renew: Callable[[], None]
    ) -> Attempt | None:
        """Return None where nothing is left to do: the cluster left the fleet, another run was quicker, no time."""
        current, targets = await self._current(member, targets)
        if not current:
            return None
        status, thorough = self.record.status(current), self._message.reason == "manual"
        watch = Watch(self._has_time, partial(self._note, member.cluster.cluster, renew))
        return await self._writer.write(current, targets, status, hub, token, thorough=thorough, watch=watch)

    async def _observe(self, member: Member, targets: Sequence[Target]) -> Attempt | None:
        current, targets = await self._current(member, targets)
        return await self._writer.observe(current, targets) if current else None

    async def _current(self, member: Member, targets: Sequence[Target]) -> tuple[Member | None, Sequence[Target]]:
        """Return the cluster as it is in the fleet now, and those of its targets that are still due; None if there are
        none. targets: that were due when the rows were read.
        """
        current = await self.record.member(member.cluster.cluster) if self._has_time() else None
        if current and current is not member:
            targets = self._due(current)
        return (current if targets else None), targets


def _first(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error in a group of groups."""
    first = failed.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
