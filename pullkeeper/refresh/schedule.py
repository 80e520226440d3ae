"""Use case: put the clusters that are due on the queue, and report the status of the fleet."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pullkeeper import telemetry
from pullkeeper.deadline import remaining, reserve
from pullkeeper.errors import MessagesUnread, PullkeeperError
from pullkeeper.fleet import storage
from pullkeeper.fleet.overview import explain_expiry
from pullkeeper.fleet.queues import POISON, REFRESH, Queue
from pullkeeper.fleet.table import Fleet, StoredStatus
from pullkeeper.model import Cluster, ClusterId, RefreshMessage, Status, TargetStatus
from pullkeeper.tokens import lease

_AT_ONCE: Final = 32
_REPORT_ALL_EVERY: Final = timedelta(hours=1)
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class Run:
    """The figures of one run. unqueued: clusters that are due and had to be left to the next run."""

    clusters: int = 0
    queued: int = 0
    unqueued: int = 0


class Scheduler:
    """Queues refreshes. The timer runs on one instance at a time; a second run at once costs a write per cluster."""

    def __init__(self, fleet: Fleet, queues: Mapping[str, Queue], clock: Callable[[], datetime]) -> None:
        """queues: all of the app's, by name; the depth of each is reported."""
        self._fleet = fleet
        self._queues = queues
        self._clock = clock
        self._reported_all_at = _NEVER

    async def run(self) -> Run:
        """Report the fleet, queue every cluster that is due, and remove the statuses of those that have left.

        Emits `run.completed` also when it is cut short, by a failure or by the invocation's deadline: what was not
        queued is still due at the next run. Raises StorageUnavailable.
        """
        run, figures, level = Run(), dict[str, telemetry.Attribute](), logging.WARNING
        try:
            with reserve(storage.CALL):
                figures |= await self._read_and_queue(run)
            figures |= await self._report_depths()
            level = logging.WARNING if run.unqueued else logging.INFO
        except PullkeeperError as e:
            figures |= {"category": e.category, "detail": e.detail, "remedy": e.remedy}
            raise
        finally:
            telemetry.emit("run.completed", {**asdict(run), **figures}, level)
        return run

    async def _read_and_queue(self, run: Run) -> Mapping[str, int]:
        """Return the number of targets in each state."""
        now = self._clock()
        clusters = {identity: cluster async for identity, cluster in self._fleet.clusters()}
        statuses = {stored.status.cluster: stored async for stored in self._fleet.statuses()}
        states = self._report_targets(clusters, statuses, now)
        due = [cluster for cluster in clusters if cluster not in statuses or statuses[cluster].status.next_due <= now]
        # Clusters that have been failing come last, so that no other cluster waits for them.
        due.sort(key=lambda cluster: statuses[cluster].status.failures if cluster in statuses else 0)
        run.clusters, run.unqueued = len(clusters), len(due)

        async def queue(cluster: ClusterId) -> None:
            await self._queue_and_lease(cluster, statuses.get(cluster), now)
            run.queued += 1
            run.unqueued -= 1

        await _for_each(due, queue)
        await _for_each([cluster for cluster in statuses if cluster not in clusters], self._fleet.forget)
        return states

    async def refresh_now(self, cluster: ClusterId) -> None:
        """Queue one cluster at once. Raises NotInFleet."""
        await self._fleet.member(cluster)
        await self._queues[REFRESH].put(RefreshMessage(cluster=cluster, reason="manual"))

    async def refresh_all_now(self) -> Run:
        """Queue the whole fleet at once: after an outage, or when a token was revoked."""
        clusters = [identity async for identity, _ in self._fleet.clusters()]
        run = Run(len(clusters), 0, len(clusters))

        async def queue(cluster: ClusterId) -> None:
            await self._queues[REFRESH].put(RefreshMessage(cluster=cluster, reason="manual"))
            run.queued += 1
            run.unqueued -= 1

        await _for_each(clusters, queue)
        return run

    async def _queue_and_lease(self, cluster: ClusterId, stored: StoredStatus | None, now: datetime) -> None:
        """First the message, then the lease: a crash in between costs a second message, never a refresh."""
        await self._queues[REFRESH].put(RefreshMessage(cluster=cluster, reason="due"))
        status = stored.status if stored else Status(cluster=cluster, next_due=now)
        leased = status.model_copy(update={"next_due": now + lease(status.life)})
        await self._fleet.save(leased, stored.etag if stored else None)

    async def _report_depths(self) -> Mapping[str, int]:
        """Report the depth of each queue. A poison queue is empty, unless it has messages that no function can take."""
        depths = await asyncio.gather(*(queue.depth() for queue in self._queues.values()))
        by_name = dict(zip(self._queues, depths, strict=True))
        for name, depth in by_name.items():
            telemetry.measure(telemetry.queue_depth.set, depth, {"queue": name})
            if depth and name in POISON:
                failure = MessagesUnread(f"{depth} messages are in {name}: no function has taken them", {"queue": name})
                event = {"queue": name, "category": failure.category, "detail": failure.detail}
                telemetry.emit("message.poisoned", {**event, "remedy": failure.remedy}, logging.WARNING)
        return {f"{name.replace('-', '_')}_depth": depth for name, depth in by_name.items()}

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
                    _report_target(identity, target, explain_expiry(identity, cluster, target, status, now), state)
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
    """Call `work` for each, a bounded number at once. Starts none once the invocation's deadline leaves less time than
    a call to storage may take. Cancels the rest and raises at the first failure.
    """
    places = asyncio.Semaphore(_AT_ONCE)
    call_seconds = storage.CALL.total_seconds()

    async def call(cluster: ClusterId) -> None:
        async with places:
            if remaining(call_seconds) == call_seconds:
                await work(cluster)

    try:
        async with asyncio.TaskGroup() as group:
            for cluster in clusters:
                group.create_task(call(cluster))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
