"""The fleet as HTTP shows it, page by page."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

from pydantic import AwareDatetime

from pullkeeper.document import Document
from pullkeeper.errors import InClusterRefreshStopped, InvalidRequest, RefreshStopped
from pullkeeper.fleet.table import Fleet
from pullkeeper.model import Cluster, ClusterId, ClusterRef, State, Status, TargetStatus

_PAGE: Final = 100


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
    """continuation: of the next page; None on the last. A page filtered by state may hold fewer clusters, or none."""

    version: str
    clusters: tuple[ClusterView, ...]
    continuation: str | None = None


class Overview:
    """Reads the fleet's tables. Raises StorageUnavailable."""

    def __init__(self, fleet: Fleet, clock: Callable[[], datetime]) -> None:
        self._fleet = fleet
        self._clock = clock

    async def page(self, state: str | None, continuation: str | None) -> tuple[tuple[ClusterView, ...], str | None]:
        """Return a page of the fleet, and the continuation of the next. Raises InvalidRequest for an unknown state."""
        if state not in {None, "pending", "fresh", "stale", "expired", "unknown"}:
            raise InvalidRequest("state: must be pending, fresh, stale, expired or unknown")
        clusters, next_page = await self._fleet.page(continuation, _PAGE)
        statuses = await asyncio.gather(*(self._fleet.status(identity) for identity, _ in clusters))
        views = [
            self._view(identity, cluster, stored.status if stored else None)
            for (identity, cluster), stored in zip(clusters, statuses, strict=True)
        ]
        filtered = (view for view in views if state is None or any(target.state == state for target in view.targets))
        return tuple(filtered), next_page

    async def one(self, cluster: ClusterId) -> ClusterView:
        """Raises NotInFleet."""
        member = await self._fleet.member(cluster)
        stored = await self._fleet.status(cluster)
        return self._view(cluster, member.cluster, stored.status if stored else None)

    def _view(self, identity: ClusterId, cluster: Cluster | None, status: Status | None) -> ClusterView:
        known = status.targets if status else {}
        names = [str(target) for target in cluster.targets] if cluster else list(known)
        now = self._clock()
        return ClusterView(
            cluster=identity,
            hub=cluster.hub if cluster and isinstance(cluster.hub, str) else None,
            refresher=cluster.refresher if cluster else "central",
            next_due=status.next_due if status else None,
            targets=tuple(
                self._target(name, explain_expiry(identity, cluster, name, known.get(name, TargetStatus()), now))
                for name in names
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


def explain_expiry(
    identity: ClusterId, cluster: Cluster | None, target: str, status: TargetStatus, now: datetime
) -> TargetStatus:
    """Give an expired secret a category if none of its refreshes has failed: then none has run."""
    if status.category or status.state(now) != "expired":
        return status
    in_cluster = cluster is not None and cluster.refresher == "in-cluster"
    kind = InClusterRefreshStopped if in_cluster else RefreshStopped
    failure = kind(
        f"no refresh since {status.issued_at}", {"cluster": str(identity), "namespace": target.partition("/")[0]}
    )
    explanation = {"category": failure.category, "detail": failure.detail, "remedy": failure.remedy}
    return status.model_copy(update=explanation)
