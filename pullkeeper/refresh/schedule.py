"""Use case: put the shards that are due on the queue. Its cost does not grow with the fleet."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pullkeeper import telemetry
from pullkeeper.deadline import reserve
from pullkeeper.errors import MessagesUnread, PullkeeperError
from pullkeeper.fleet import storage
from pullkeeper.fleet.queues import POISON, REFRESH, Queue, RefreshMessage
from pullkeeper.fleet.shard_table import Shards, Totals
from pullkeeper.fleet.shards import Shard, shard_of
from pullkeeper.fleet.table import Fleet
from pullkeeper.model import ClusterId
from pullkeeper.refresh.pace import tick

_TOLERANCE: Final = 1.2
"""A timer is a little late now and then."""
_LOOK_EVERY: Final = timedelta(hours=1)
"""For shards whose row was lost, with the table or by hand: the one cost of a tick that grows with the fleet."""
_LOUD: Final = frozenset({"overdue", "other_version", "slow_tick_seconds"})


@dataclass(frozen=True, slots=True)
class Run:
    """What one run did. clusters: in the fleet, as of the last run of each shard. queued: shards."""

    clusters: int
    queued: int


class Scheduler:
    """Sends messages and leases nothing: what is due when a tick comes is sent, whatever became of the last message."""

    def __init__(
        self, fleet: Fleet, shards: Shards, queues: Mapping[str, Queue], clock: Callable[[], datetime]
    ) -> None:
        """queues: all of the app's, by name; the depth of each is reported."""
        self._fleet = fleet
        self._shards = shards
        self._queues = queues
        self._clock = clock

    async def run(self) -> Run:
        """Queue every shard whose time has come. Emits `run.completed` also when it is cut short. Raises
        StorageUnavailable: then the next tick does the work.
        """
        now, level = self._clock(), logging.WARNING
        figures: dict[str, telemetry.Attribute] = {"clusters": 0, "queued": 0}
        try:
            with reserve(storage.CALL):
                seen = await self._shards.totals()
                due = [one.shard for one in seen.shards if one.known and one.next_due <= now]
                looks = now - seen.looked_at >= _LOOK_EVERY
                if looks:
                    due += sorted(await self._fleet.shards() - {one.shard for one in seen.shards})
                await self._send(due, "due")
                figures |= {"clusters": seen.clusters, "queued": len(due), **self._delays(seen, now), **seen.states}
                await self._shards.record_run(now, now if looks else seen.looked_at)
            depths = await self._report_depths()
            if _LOUD & {name for name, value in figures.items() if value}:
                figures["remedy"] = telemetry.documentation.figures
            else:
                level = logging.INFO
            figures |= depths
        except PullkeeperError as e:
            figures |= {"category": e.category, "detail": e.detail, "remedy": e.remedy}
            raise
        finally:
            telemetry.emit("run.completed", figures, level)
        return Run(seen.clusters, len(due))

    async def refresh_now(self, cluster: ClusterId) -> None:
        """Refresh one cluster at once. Raises NotInFleet."""
        await self._fleet.member(cluster)
        await self._queues[REFRESH].put(RefreshMessage(shard=shard_of(cluster), cluster=cluster, reason="manual"))

    async def refresh_all_now(self) -> Run:
        """Refresh the whole fleet at once: after an outage, or when a token was revoked. Raises StorageUnavailable."""
        seen = await self._shards.totals()
        await self._send([one.shard for one in seen.shards], "manual")
        return Run(seen.clusters, len(seen.shards))

    async def _send(self, shards: list[Shard], reason: str) -> None:
        messages = [RefreshMessage.parse({"shard": shard, "reason": reason}) for shard in shards]
        await asyncio.gather(*(self._queues[REFRESH].put(message) for message in messages))

    def _delays(self, seen: Totals, now: datetime) -> Mapping[str, telemetry.Attribute]:
        """Return what delays the fleet. other_version: shards that this code leaves alone. slow_tick_seconds: since the
        run before, where that is too slow for the shortest token life in the fleet.
        """
        delays: dict[str, telemetry.Attribute] = {"overdue": seen.overdue(now)}
        if unknown := sum(not one.known for one in seen.shards):
            delays["other_version"] = unknown
        longest = min((tick(one.life) for one in seen.shards), default=None)
        if longest and seen.last_run and now - seen.last_run > longest * _TOLERANCE:
            delays["slow_tick_seconds"] = (now - seen.last_run).total_seconds()
            delays["longest_tick_seconds"] = longest.total_seconds()
        return delays

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
