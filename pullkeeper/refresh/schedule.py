"""Use case: put the clusters that are due on the queue, and report the status of the fleet."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pullkeeper import telemetry
from pullkeeper.fleet.queues import Queue
from pullkeeper.fleet.table import Fleet, StoredStatus
from pullkeeper.model import Cluster, ClusterId, RefreshMessage, Status, TargetStatus
from pullkeeper.tokens import lease

_AT_ONCE: Final = 32
_REPORT_ALL_EVERY: Final = timedelta(hours=1)
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Run:
    """The figures of one run."""

    clusters: int
    queued: int


class Scheduler:
    """Queues refreshes. The timer runs on one instance at a time; a second run at once costs a write per cluster."""

    def __init__(self, fleet: Fleet, queue: Queue, clock: Callable[[], datetime]) -> None:
        self._fleet = fleet
        self._queue = queue
        self._clock = clock
        self._reported_all_at = _NEVER

    async def run(self) -> Run:
        """Queue every cluster that is due, remove the statuses of those that have left, and report the fleet. Raises
        StorageUnavailable; what was not queued is still due at the next run.
        """
        now = self._clock()
        clusters = {identity: cluster async for identity, cluster in self._fleet.clusters()}
        statuses = {stored.status.cluster: stored async for stored in self._fleet.statuses()}
        due = [cluster for cluster in clusters if cluster not in statuses or statuses[cluster].status.next_due <= now]
        # Clusters that have been failing come last, so that no other cluster waits for them.
        due.sort(key=lambda cluster: statuses[cluster].status.failures if cluster in statuses else 0)
        await _for_each(due, lambda cluster: self._queue_and_lease(cluster, statuses.get(cluster), now))
        await _for_each([cluster for cluster in statuses if cluster not in clusters], self._fleet.forget)
        states = self._report_targets(clusters, statuses, now)
        depth = await self._queue.depth()
        telemetry.measure(telemetry.queue_depth.set, depth)
        figures = {"clusters": len(clusters), "queued": len(due), "queue_depth": depth}
        telemetry.emit("run.completed", {**figures, **states})
        return Run(len(clusters), len(due))

    async def refresh_now(self, cluster: ClusterId) -> None:
        """Queue one cluster at once. Raises NotInFleet."""
        await self._fleet.member(cluster)
        await self._queue.put(RefreshMessage(cluster=cluster, reason="manual"))

    async def refresh_all_now(self) -> Run:
        """Queue the whole fleet at once: after an outage, or when a token was revoked."""
        clusters = [identity async for identity, _ in self._fleet.clusters()]
        await _for_each(clusters, lambda cluster: self._queue.put(RefreshMessage(cluster=cluster, reason="manual")))
        return Run(len(clusters), len(clusters))

    async def _queue_and_lease(self, cluster: ClusterId, stored: StoredStatus | None, now: datetime) -> None:
        """First the message, then the lease: a crash in between costs a second message, never a refresh."""
        await self._queue.put(RefreshMessage(cluster=cluster, reason="due"))
        status = stored.status if stored else Status(cluster=cluster, next_due=now)
        leased = status.model_copy(update={"next_due": now + lease(status.life)})
        await self._fleet.save(leased, stored.etag if stored else None)

    def _report_targets(
        self, clusters: Mapping[ClusterId, Cluster | None], statuses: Mapping[ClusterId, StoredStatus], now: datetime
    ) -> Counter[str]:
        """Emit an event per target that is not fresh, and once an hour for every target: an event has the time of
        expiry, so alerts need no more, and 10,000 clusters do not flood the log.
        """
        report_all = now - self._reported_all_at >= _REPORT_ALL_EVERY
        self._reported_all_at = now if report_all else self._reported_all_at
        states: Counter[str] = Counter()
        for identity, cluster in clusters.items():
            known = statuses[identity].status.targets if identity in statuses else {}
            for target in map(str, cluster.targets) if cluster else known:
                status = known.get(target, TargetStatus())
                state = status.state(now)
                states[state] += 1
                if status.expires_at:
                    left = (status.expires_at - now).total_seconds()
                    attributes = {"cluster": str(identity), "target": target}
                    telemetry.measure(telemetry.remaining_lifetime.record, left, attributes)
                if report_all or state != "fresh":
                    _report_target(identity, target, status, state)
        return states


def _report_target(cluster: ClusterId, target: str, status: TargetStatus, state: str) -> None:
    event = {
        "cluster": str(cluster),
        "target": f"{cluster}/{target}",
        "state": state,
        "token_expiry": status.expires_at,
        "last_success": status.last_success,
        "category": status.category,
        "remedy": status.remedy,
    }
    telemetry.emit("fleet.status", event)


async def _for_each(clusters: Iterable[ClusterId], work: Callable[[ClusterId], Awaitable[None]]) -> None:
    """Call `work` for each, a bounded number at once. Cancels the rest and raises at the first failure."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def call(cluster: ClusterId) -> None:
        async with places:
            await work(cluster)

    try:
        async with asyncio.TaskGroup() as group:
            for cluster in clusters:
                group.create_task(call(cluster))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
