"""The fleet as HTTP shows it, page by page."""

import base64
import json
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Final, get_args

from pydantic import AwareDatetime

from pullkeeper.document import Document
from pullkeeper.errors import MALFORMED, InClusterRefreshStopped, InvalidRequest, NotInFleet, RefreshStopped
from pullkeeper.fleet.shard_table import Shards, ShardState
from pullkeeper.fleet.shards import shard_of
from pullkeeper.fleet.status import State, Status, TargetStatus
from pullkeeper.fleet.table import Fleet, Row
from pullkeeper.model import Cluster, ClusterId, ClusterRef, Target

_PAGE: Final = 100
_SHARD: Final = re.compile(r"[01][0-9a-f]")
_KEY: Final = re.compile(r"[\w.()|-]{1,1024}", re.ASCII)
"""Part of a filter of the table service, so it allows no character that has a meaning there."""


class TargetView(Document):
    """One secret with its status."""

    target: str
    state: State
    expires_at: AwareDatetime | None = None
    last_success: AwareDatetime | None = None
    category: str | None = None
    detail: str | None = None
    remedy: str | None = None
    note: str | None = None


class ClusterView(Document):
    """One cluster with its secrets. hub: its name; None where the cluster was onboarded with a hub of its own."""

    cluster: ClusterRef
    hub: str | None = None
    refresher: str = "central"
    next_due: AwareDatetime | None = None
    targets: tuple[TargetView, ...] = ()


class FleetPage(Document):
    """continuation: of the next page; None on the last."""

    version: str
    clusters: tuple[ClusterView, ...]
    continuation: str | None = None


class Overview:
    """Reads the fleet's tables. Raises StorageUnavailable."""

    def __init__(self, fleet: Fleet, shards: Shards, clock: Callable[[], datetime]) -> None:
        self._fleet = fleet
        self._shards = shards
        self._clock = clock

    async def page(self, state: str | None, continuation: str | None) -> tuple[tuple[ClusterView, ...], str | None]:
        """Return a page of the fleet, and the continuation of the next. With a state: of the clusters with a target in
        it. Raises InvalidRequest for an unknown state or a continuation that no page gave.
        """
        if state not in {None, *get_args(State)}:
            raise InvalidRequest(f"state: must be one of {', '.join(get_args(State))}")
        after = _decode_continuation(continuation)
        views: list[ClusterView] = []
        while len(views) < _PAGE:
            rows = await self._fleet.page(after, _PAGE)
            shards = await self._shards.read_range(rows[0][0][0], rows[-1][0][0]) if rows else {}
            for keys, row in rows:
                after = keys
                view = self._view(row, shards.get(keys[0], ShardState(keys[0])).status(row.id))
                if state is None or any(target.state == state for target in view.targets):
                    views.append(view)
                if len(views) == _PAGE:
                    return tuple(views), _encode_continuation(keys)
            if len(rows) < _PAGE:
                break
        return tuple(views), None

    async def one(self, cluster: ClusterId) -> ClusterView:
        """Return one cluster. Raises NotInFleet; what is wrong with a row that cannot be read."""
        member = await self._fleet.member(cluster)
        state = await self._shards.read(shard_of(cluster))
        return self._view(Row(cluster, member), state.status(cluster))

    def _view(self, row: Row, status: Status) -> ClusterView:
        if row.member is None:
            fault = row.fault or NotInFleet("the row cannot be read")
            unread = TargetView(
                target="-", state="unknown", category=fault.category, detail=fault.detail, remedy=fault.remedy
            )
            return ClusterView(cluster=row.id, targets=(unread,))
        cluster, now = row.member.cluster, self._clock()
        return ClusterView(
            cluster=row.id,
            hub=cluster.hub if isinstance(cluster.hub, str) else None,
            refresher=cluster.refresher,
            next_due=status.next_due(cluster),
            targets=tuple(
                self._target(str(target), explain_expiry(cluster, target, status.of(target), now))
                for target in cluster.targets
            ),
        )

    def _target(self, name: str, status: TargetStatus) -> TargetView:
        return TargetView(
            target=name,
            state=status.state(self._clock()),
            expires_at=status.expires_at,
            last_success=status.last_success,
            category=status.category,
            detail=status.detail,
            remedy=status.remedy,
            note=status.note,
        )


def _encode_continuation(keys: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(keys).encode()).decode()


def _decode_continuation(continuation: str | None) -> tuple[str, str] | None:
    if continuation is None:
        return None
    with suppress(*MALFORMED):
        shard, key = json.loads(base64.urlsafe_b64decode(continuation))
        if _SHARD.fullmatch(shard) and _KEY.fullmatch(key):
            return shard, key
    raise InvalidRequest("continuation: must be what the page before gave")


def explain_expiry(cluster: Cluster, target: Target, status: TargetStatus, now: datetime) -> TargetStatus:
    """Give an expired secret a category if none of its refreshes has failed: then none has run."""
    if status.category or status.state(now) != "expired":
        return status
    kind = InClusterRefreshStopped if cluster.refresher == "in-cluster" else RefreshStopped
    context = {"cluster": str(cluster.cluster), "namespace": target.namespace}
    failure = kind(f"no refresh since {status.issued_at}", context)
    explanation = {"category": failure.category, "detail": failure.detail, "remedy": failure.remedy}
    return status.model_copy(update=explanation)
