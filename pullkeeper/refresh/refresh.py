"""Use case: refresh a shard. One query reads its clusters and a second one how they are; those that are due get a
token, and one write records how it went. A failure is an outcome, and what ends a run early is left to the next tick.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from pullkeeper import telemetry
from pullkeeper.errors import InternalError, NotInFleet, PullkeeperError, UnknownFormat
from pullkeeper.fleet.overview import explain_expiry
from pullkeeper.fleet.queues import Queue, RefreshMessage, has_other_version
from pullkeeper.fleet.shard_table import Shards, ShardState
from pullkeeper.fleet.shards import shard_of
from pullkeeper.fleet.status import TargetStatus
from pullkeeper.fleet.table import Fleet, Member
from pullkeeper.model import Target
from pullkeeper.refresh.attempt import Writer
from pullkeeper.refresh.capacity import Capacity
from pullkeeper.refresh.outcomes import ALL, Attempt, Fresh, next_status, report_status
from pullkeeper.refresh.pace import quick_retry
from pullkeeper.refresh.record import Record
from pullkeeper.refresh.results import Results
from pullkeeper.refresh.search import Listing, apply_search
from pullkeeper.refresh.shard_run import ShardRun

_OTHER_VERSION_AGAIN: Final = timedelta(minutes=5)
_WELL: Final = frozenset({"fresh", "removed"})
"""States of which the hourly report is enough."""
Figures = Mapping[str, telemetry.Attribute]


@dataclass(frozen=True, slots=True)
class FirstSecrets:
    """The first secrets of a cluster, what was refused, its shard as it was read before, and the list of its namespaces
    if it has selectors.
    """

    written: Mapping[Target, Fresh]
    failures: Mapping[Target, PullkeeperError]
    shard: ShardState
    listing: Listing | None = None


class Refresher:
    """Refreshes shards, several at once within one capacity."""

    def __init__(
        self,
        fleet: Fleet,
        shards: Shards,
        queue: Queue,
        writer: Writer,
        clock: Callable[[], datetime],
    ) -> None:
        self._fleet = fleet
        self._shards = shards
        self._queue = queue
        self._writer = writer
        self._clock = clock
        self._capacity = Capacity()

    async def receive(self, raw: bytes) -> None:
        """Do what a message asks for. One of another version goes back to the queue with a delay: during a rolling
        upgrade the code that knows it runs beside this one. Raises InvalidRequest for one that cannot be read.
        """
        if has_other_version(raw):
            await self._queue.put(raw.decode(), _OTHER_VERSION_AGAIN)
            e = UnknownFormat("a message of the queue refresh")
            deferred = {"queue": "refresh", "category": e.category, "detail": e.detail, "remedy": e.remedy}
            telemetry.emit("message.deferred", deferred, logging.WARNING)
            return
        await self.refresh(RefreshMessage.parse(raw))

    async def refresh(self, message: RefreshMessage) -> None:
        """Refresh what is due in a shard, or what the message names, and emit `shard.completed`. Raises nothing that
        the queue's own retry could help: the shard stays due, and the next tick sends it again.
        """
        began = time.monotonic()
        figures: dict[str, telemetry.Attribute] = {"shard": message.shard, "reason": message.reason}
        level = logging.INFO
        try:
            figures |= await self._run(message)
        except PullkeeperError as e:
            figures |= {"category": e.category, "detail": e.detail, "remedy": e.remedy}
            level = logging.ERROR
        seconds = time.monotonic() - began
        telemetry.measure(telemetry.refresh_duration.record, seconds)
        telemetry.emit("shard.completed", {**figures, "seconds": round(seconds, 3)}, level)

    async def give_up(self, raw: bytes) -> None:
        """Report a message that the platform has given up. What it asked for is still due at the next tick."""
        try:
            message = RefreshMessage.parse(raw)
            detail = "each delivery has failed, or ended the process. The next tick sends the shard again"
            poisoned = {"shard": message.shard, "category": InternalError.category, "detail": detail}
        except PullkeeperError as e:
            poisoned = {"category": e.category, "detail": e.detail, "remedy": e.remedy}
        telemetry.emit("message.poisoned", {"queue": "refresh", **poisoned}, logging.ERROR)

    async def write_first(self, member: Member, written: Collection[Target]) -> FirstSecrets:
        """Write the first secrets of a cluster that is about to join, or to change: those of its targets, named or
        found, that are not written yet. Nothing is recorded: `record_first` does that once it has joined.

        Raises as `Writer.token`; ClusterError where the namespaces of its selectors cannot be listed.
        """
        cluster = member.cluster
        shard = await self._shards.read(shard_of(cluster.cluster))
        before = shard.status(cluster.cluster)
        # Onboarding asked Azure a moment ago.
        before = before.model_copy(update={"located_at": self._clock()})
        listing: Listing | None = None
        if cluster.selectors:
            result = (await self._writer.search(member, before)).search
            if isinstance(result, PullkeeperError):
                raise result
            listing = result
            before = apply_search(before, cluster, listing, self._clock())
        targets = [one for one in before.targets_of(cluster) if one not in written and not before.of(one).removed_at]
        hub, token = await self._writer.token(cluster, before)
        attempt = await self._writer.write(member, targets, before, hub, token, thorough=True)
        outcomes = attempt.outcomes.items()
        fresh = {target: one for target, one in outcomes if isinstance(one, Fresh)}
        failures = {target: one for target, one in outcomes if isinstance(one, PullkeeperError)}
        return FirstSecrets(fresh, failures, shard, listing)

    async def record_first(self, member: Member, first: FirstSecrets) -> None:
        """Record the first secrets of a cluster that has joined. Raises StorageUnavailable, UnknownFormat."""
        cluster, now = member.cluster, self._clock()
        attempt = Attempt(first.written, search=first.listing)

        def change(state: ShardState) -> ShardState:
            status = next_status(state.status(cluster.cluster), cluster, attempt, now)
            statuses = {**state.statuses, cluster.cluster: status}
            targets = [target for one in statuses.values() for target in one.targets.values()]
            return replace(
                state,
                next_due=min(state.next_due, status.next_due(cluster)),
                clusters=len(statuses),
                states=Counter(target.state(now) for target in targets),
                statuses=statuses,
            )

        saved = await self._shards.save(change(first.shard)) or await self._shards.update(first.shard.shard, change)
        before, after = (state.status(cluster.cluster) for state in (first.shard, saved))
        Results().report(cluster.cluster, attempt, before, after)

    async def _run(self, message: RefreshMessage) -> Figures:
        record = Record(self._fleet, self._shards, message.shard, self._clock)
        run = ShardRun(record, self._writer, self._capacity, message, self._clock)
        await run.work()
        self._report(record)
        if run.unfinished:
            rest = {"since": message.since or run.began} if message.reason == "manual" else {}
            await self._queue.put(message.model_copy(update=rest))
        elif record.results.retry_soon:
            again = RefreshMessage(shard=message.shard, reason="retry")
            await self._queue.put(again, quick_retry(record.state.life))
        unreadable = sum(row.member is None for row in record.rows.values())
        counts = record.results.counts
        failed = counts.total() - counts["ok"]
        return {"clusters": record.state.clusters, "ok": counts["ok"], "failed": failed, "unreadable": unreadable}

    def _report(self, record: Record) -> None:
        """Emit `fleet.status` of every target that is not fresh, or that its cluster refreshes itself (nothing else is
        emitted of those), and once an hour of all.
        """
        now = self._clock()
        for row in record.rows.values():
            if row.member is None:
                fault = row.fault or NotInFleet("the row cannot be read")
                unread = TargetStatus(category=fault.category, remedy=fault.remedy)
                report_status(row.id, "-", unread, "unknown")
                continue
            known = record.state.status(row.id)
            if known.search and known.search.category:
                failed = TargetStatus(category=known.search.category, remedy=known.search.remedy)
                report_status(row.id, ALL, failed, "unknown")
            for target in known.targets_of(row.member.cluster):
                status = known.of(target)
                state = status.state(now)
                if status.expires_at and state != "removed":
                    telemetry.measure(telemetry.remaining_lifetime.record, (status.expires_at - now).total_seconds())
                if record.reports_all or state not in _WELL or row.member.cluster.refresher == "in-cluster":
                    explained = explain_expiry(row.member.cluster, target, status, now)
                    report_status(row.id, str(target), explained, state)
