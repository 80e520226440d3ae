"""Use case: what is due goes on the queue, and the operator is told how the fleet is."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pullkeeper import telemetry
from pullkeeper.fleet.queues import Queue
from pullkeeper.fleet.table import Fleet, Versioned
from pullkeeper.model import Cluster, ClusterId, RefreshMessage, Status, TargetStatus
from pullkeeper.tokens import lease

_AT_ONCE: Final = 32
_TELL_ALL_EVERY: Final = timedelta(hours=1)
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Run:
    """What one run did: figures for the log, and for whoever called it by hand."""

    clusters: int
    queued: int


class Scheduler:
    """Runs on one instance at a time (the timer is a singleton); two at once would cost a write each, no more."""

    def __init__(self, fleet: Fleet, queue: Queue, clock: Callable[[], datetime]) -> None:
        self._fleet = fleet
        self._queue = queue
        self._clock = clock
        self._told_all_at = _NEVER

    async def run(self) -> Run:
        """Queue every cluster whose time has come; clear away what is left of those that have gone. Raises
        StorageUnavailable; the next run makes up for it.
        """
        now = self._clock()
        clusters = {identity: cluster async for identity, cluster in self._fleet.clusters()}
        held = {versioned.status.cluster: versioned async for versioned in self._fleet.statuses()}
        due = [cluster for cluster in clusters if cluster not in held or held[cluster].status.next_due <= now]
        # Those that have been failing come last: whatever they cost, nobody waits behind them.
        due.sort(key=lambda cluster: held[cluster].status.failures if cluster in held else 0)
        await _each(due, lambda cluster: self._enqueue(cluster, held.get(cluster), now))
        await _each([cluster for cluster in held if cluster not in clusters], self._fleet.forget)
        states = self._tell(clusters, held, now)
        depth = await self._queue.depth()
        telemetry.measure(telemetry.queue_depth.set, depth)
        figures = {"clusters": len(clusters), "queued": len(due), "queue_depth": depth}
        telemetry.emit("run.completed", {**figures, **states})
        return Run(len(clusters), len(due))

    async def refresh_now(self, cluster: ClusterId) -> None:
        """One cluster, at once. Raises InvalidRequest when it is not in the fleet."""
        await self._fleet.member(cluster)
        await self._queue.put(RefreshMessage(cluster=cluster, reason="manual"))

    async def refresh_all_now(self) -> Run:
        """The whole fleet, at once: after an outage, or when a token was revoked."""
        clusters = [identity async for identity, _ in self._fleet.clusters()]
        await _each(clusters, lambda one: self._queue.put(RefreshMessage(cluster=one, reason="manual")))
        return Run(len(clusters), len(clusters))

    async def _enqueue(self, cluster: ClusterId, held: Versioned | None, now: datetime) -> None:
        """First the message, then the lease: a crash in between costs a second message, never a cluster."""
        await self._queue.put(RefreshMessage(cluster=cluster, reason="due"))
        status = held.status if held else Status(cluster=cluster, next_due=now)
        leased = status.model_copy(update={"next_due": now + lease(status.life)})
        await self._fleet.save(leased, held.etag if held else None)

    def _tell(
        self, clusters: Mapping[ClusterId, Cluster | None], held: Mapping[ClusterId, Versioned], now: datetime
    ) -> Counter[str]:
        """One event per target that is not fresh, and every hour one for each: expiry is told as a time, so alerts
        need no more, and 10,000 clusters do not flood the log.
        """
        tell_all = now - self._told_all_at >= _TELL_ALL_EVERY
        self._told_all_at = now if tell_all else self._told_all_at
        states: Counter[str] = Counter()
        for identity, cluster in clusters.items():
            known = held[identity].status.targets if identity in held else {}
            for target in map(str, cluster.targets) if cluster else known:
                status = known.get(target, TargetStatus())
                state = status.state(now)
                states[state] += 1
                if status.expires_at:
                    left = (status.expires_at - now).total_seconds()
                    about = {"cluster": str(identity), "target": target}
                    telemetry.measure(telemetry.remaining_lifetime.record, left, about)
                if tell_all or state != "fresh":
                    _tell_one(identity, target, status, state)
        return states


def _tell_one(cluster: ClusterId, target: str, status: TargetStatus, state: str) -> None:
    told = {
        "cluster": str(cluster),
        "target": f"{cluster}/{target}",
        "state": state,
        "token_expiry": status.expires_at,
        "last_success": status.last_success,
        "category": status.category,
        "remedy": status.remedy,
    }
    telemetry.emit("fleet.status", told)


async def _each(items: Iterable[ClusterId], work: Callable[[ClusterId], Awaitable[None]]) -> None:
    """Bounded, so that a fleet of thousands does not open thousands of connections. Raises the first failure."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(item: ClusterId) -> None:
        async with places:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for item in items:
                group.create_task(one(item))
    except ExceptionGroup as failed:
        # They all fail for the same reason, and the first one has called the others off.
        raise failed.exceptions[0] from None
