"""The fleet as HTTP shows it, page by page."""

import base64
import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, get_args

from pydantic import AwareDatetime, Field

from pullkeeper.document import Document
from pullkeeper.documentation import Documentation
from pullkeeper.errors import MALFORMED, InClusterRefreshStopped, InvalidRequest, NotInFleet, RefreshStopped
from pullkeeper.fleet.shard_table import Shards, ShardState
from pullkeeper.fleet.shards import shard_of
from pullkeeper.fleet.status import Search, State, Status, TargetStatus
from pullkeeper.fleet.table import Fleet, Row
from pullkeeper.model import Cluster, ClusterId, ClusterRef, Target

_PAGE: Final = 100
_NEW: Final = timedelta(hours=1)
_SHARD: Final = re.compile(r"0[0-9a-f]")
_KEY: Final = re.compile(r"[\w.()|-]{1,1024}", re.ASCII)
"""Part of a filter of the table service, so it allows no character that has a meaning there."""


class TargetView(Document):
    """One secret with its status. issued_at, expires_at: of its token. runbook: the address of the category's page."""

    target: str
    state: State
    issued_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    last_success: AwareDatetime | None = None
    category: str | None = None
    detail: str | None = None
    remedy: str | None = None
    runbook: str | None = None
    note: str | None = None


class ClusterLine(Document):
    """One cluster in short. hub: its name; None where the cluster was onboarded with a hub of its own. states: how many
    of its targets are in each state. found: how many of them namespace selectors find. newly_found: those that were
    found within the last hour. worst: the target that needs attention first; None where selectors have found none.
    search: how the last list of namespaces went; None without a selector.
    """

    cluster: ClusterRef
    hub: str | None = None
    refresher: str = "central"
    next_due: AwareDatetime | None = None
    states: dict[State, int] = Field(default_factory=dict)
    found: int = 0
    newly_found: int = 0
    worst: TargetView | None = None
    search: Search | None = None


class ClusterView(ClusterLine):
    """One cluster with a page of its targets, ordered by name. continuation: of the next page; None on the last."""

    targets: tuple[TargetView, ...] = ()
    continuation: str | None = None


class FleetPage(Document):
    """continuation: of the next page; None on the last."""

    version: str
    clusters: tuple[ClusterLine, ...]
    continuation: str | None = None


class Overview:
    """Reads the fleet's tables. Raises StorageUnavailable."""

    def __init__(
        self, fleet: Fleet, shards: Shards, documentation: Documentation, clock: Callable[[], datetime]
    ) -> None:
        self._fleet = fleet
        self._shards = shards
        self._documentation = documentation
        self._clock = clock

    async def page(self, state: str | None, continuation: str | None) -> tuple[tuple[ClusterLine, ...], str | None]:
        """Return a page of the fleet, and the continuation of the next. With a state: of the clusters with a target in
        it. Raises InvalidRequest for an unknown state or a continuation that no page gave.
        """
        _check_state(state)
        after = _decode(continuation, _SHARD)
        lines: list[ClusterLine] = []
        while len(lines) < _PAGE:
            rows = await self._fleet.page(after, _PAGE)
            shards = await self._shards.read_range(rows[0][0][0], rows[-1][0][0]) if rows else {}
            for keys, row in rows:
                after = keys
                line = self._line(row, shards.get(keys[0], ShardState(keys[0])).status(row.id))
                if state is None or state in line.states:
                    lines.append(line)
                if len(lines) == _PAGE:
                    return tuple(lines), _encode(keys)
            if len(rows) < _PAGE:
                break
        return tuple(lines), None

    async def one(self, cluster: ClusterId, state: str | None = None, continuation: str | None = None) -> ClusterView:
        """Return one cluster with a page of its targets. With a state: of those in it. Raises NotInFleet; what is wrong
        with a row that cannot be read; InvalidRequest as `page`.
        """
        _check_state(state)
        after = _decode(continuation) or ("", "")
        member = await self._fleet.member(cluster)
        status = (await self._shards.read(shard_of(cluster))).status(cluster)
        now, wanted = self._clock(), member.cluster
        remaining = sorted(
            (target for target in status.targets_of(wanted) if (target.namespace, target.secret) > after),
            key=lambda target: (target.namespace, target.secret),
        )
        found = [target for target in remaining if state in {None, status.of(target).state(now)}]
        page = found[:_PAGE]
        return ClusterView(
            **dict(self._line(Row(cluster, member), status)),
            targets=tuple(self._view(wanted, target, status.of(target)) for target in page),
            continuation=_encode((page[-1].namespace, page[-1].secret)) if len(found) > len(page) else None,
        )

    def _line(self, row: Row, status: Status) -> ClusterLine:
        if row.member is None:
            fault = row.fault or NotInFleet("the row cannot be read")
            unread = TargetView(
                target="-",
                state="unknown",
                category=fault.category,
                detail=fault.detail,
                remedy=fault.remedy,
                runbook=self._documentation.page(fault.category),
            )
            return ClusterLine(cluster=row.id, states={"unknown": 1}, worst=unread)
        cluster, now = row.member.cluster, self._clock()
        targets = status.targets_of(cluster)
        worst = min(targets, key=lambda target: _urgency(status.of(target), now), default=None)
        found = [one for target in targets if (one := status.of(target).found) and not one.removed_at]
        return ClusterLine(
            cluster=row.id,
            hub=cluster.hub if isinstance(cluster.hub, str) else None,
            refresher=cluster.refresher,
            next_due=status.next_due(cluster),
            states=Counter(status.of(target).state(now) for target in targets),
            found=len(found),
            newly_found=sum(one.added_at > now - _NEW for one in found),
            worst=self._view(cluster, worst, status.of(worst)) if worst else None,
            search=self._view_search(status.search) if cluster.selectors and status.search else None,
        )

    def _view(self, cluster: Cluster, target: Target, status: TargetStatus) -> TargetView:
        now = self._clock()
        explained = explain_expiry(cluster, target, status, now)
        return TargetView(
            target=str(target),
            state=explained.state(now),
            issued_at=explained.issued_at,
            expires_at=explained.expires_at,
            last_success=explained.last_success,
            category=explained.category,
            detail=explained.detail,
            remedy=explained.remedy,
            runbook=self._documentation.page(explained.category),
            note=explained.note,
        )

    def _view_search(self, search: Search) -> Search:
        return search.model_copy(update={"runbook": self._documentation.page(search.category)})


_WORST_FIRST: Final[tuple[State, ...]] = ("expired", "pending", "stale", "unknown", "fresh", "removed")


def _urgency(status: TargetStatus, now: datetime) -> tuple[int, bool, datetime]:
    """Return a key that is least for the target that needs attention first: one that was never written and has failed
    before one that waits for its first write, and then the one that expires first.
    """
    return _WORST_FIRST.index(status.state(now)), status.category is None, status.expires_at or now


def _check_state(state: str | None) -> None:
    if state not in {None, *get_args(State)}:
        raise InvalidRequest(f"state: must be one of {', '.join(get_args(State))}")


def _encode(keys: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(keys).encode()).decode()


def _decode(continuation: str | None, first_key: re.Pattern[str] = _KEY) -> tuple[str, str] | None:
    if continuation is None:
        return None
    with suppress(*MALFORMED):
        keys = json.loads(base64.urlsafe_b64decode(continuation))
        first, second = keys
        if isinstance(keys, list) and first_key.fullmatch(first) and _KEY.fullmatch(second):
            return first, second
    raise InvalidRequest("continuation: must be what the page before gave")


def explain_expiry(cluster: Cluster, target: Target, status: TargetStatus, now: datetime) -> TargetStatus:
    """Give an expired secret a category if none of its refreshes has failed: then none has run."""
    if status.category or status.state(now) != "expired":
        return status
    kind = InClusterRefreshStopped if cluster.refresher == "in-cluster" else RefreshStopped
    failure = kind(f"no refresh since {status.issued_at}", {"namespace": target.namespace})
    explanation = {"category": failure.category, "detail": failure.detail, "remedy": failure.remedy}
    return status.model_copy(update=explanation)
