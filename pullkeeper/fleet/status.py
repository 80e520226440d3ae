"""How the secrets of clusters are, target by target, and how the statuses of a shard fit into one row."""

import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from pydantic import AwareDatetime, Field

from pullkeeper.document import Document
from pullkeeper.errors import InvalidRequest
from pullkeeper.model import Cluster, ClusterId, Endpoint, Target

NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Long ago; a table holds no time before 1601."""
State = Literal["pending", "fresh", "stale", "expired", "unknown", "removed"]


class Found(Document):
    """That a namespace selector has found the target.

    namespace: of the namespace's uid the first eight characters: one that is deleted and created again has others.
    added_at: when it was found. removed_at: since when the selector no longer finds it; it is not refreshed any more.
    """

    namespace: str = ""
    added_at: AwareDatetime
    removed_at: AwareDatetime | None = None


class Search(Document):
    """How the last list of a cluster's namespaces went, for its selectors.

    since: lists have been complete, at every tick, since then. listed_at: the last complete one. category, detail,
    remedy: of a failure, or of namespaces that exceed the limit of targets. failures: lists in a row without a
    response. note: which selector has found nothing. runbook: the category's page, set where the search is shown.
    """

    since: AwareDatetime | None = None
    listed_at: AwareDatetime | None = None
    next_due: AwareDatetime = NEVER
    failures: int = 0
    category: str | None = None
    detail: str | None = None
    remedy: str | None = None
    runbook: str | None = None
    note: str | None = None


class TargetStatus(Document):
    """How one secret is.

    issued_at, expires_at: of the token in it. category, detail, remedy: of the last failure since the last success.
    failures: in a row. note: what is not as wanted although the secret is. unobserved: the cluster refreshes the
    secret, and the app may not look. found: None for a target that was named.
    """

    uid: str | None = None
    issued_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    last_success: AwareDatetime | None = None
    next_due: AwareDatetime = NEVER
    failures: int = 0
    category: str | None = None
    detail: str | None = None
    remedy: str | None = None
    note: str | None = None
    unobserved: bool = False
    found: Found | None = None

    @property
    def removed_at(self) -> datetime | None:
        return self.found.removed_at if self.found else None

    def state(self, now: datetime) -> State:
        """Return the state. pending: never written. stale: the last try failed, but the token is still valid. removed:
        its namespace has lost the labels, and the secret is not refreshed any more.
        """
        if self.removed_at:
            return "removed"
        if self.unobserved:
            return "unknown"
        if self.expires_at is None:
            return "pending"
        if self.expires_at <= now:
            return "expired"
        return "stale" if self.category else "fresh"


class Status(Document):
    """How a cluster is. endpoint: newer than the one it was onboarded with. located_at: when Azure was last asked.
    search: None where it has no namespace selector, or has not been asked for its namespaces yet.
    """

    targets: dict[str, TargetStatus] = Field(default_factory=dict)
    endpoint: Endpoint | None = None
    located_at: AwareDatetime | None = None
    search: Search | None = None

    @property
    def life(self) -> timedelta:
        """Return the shortest life of the tokens in the cluster's secrets; an hour before there is one."""
        lives = (one.expires_at - one.issued_at for one in self.targets.values() if one.expires_at and one.issued_at)
        return min(lives, default=_LIFE)

    def of(self, target: object) -> TargetStatus:
        """Return the status of a target; one that was never tried is due."""
        return self.targets.get(str(target), _NEVER_TRIED)

    def next_due(self, cluster: Cluster) -> datetime:
        """Return when the first of the cluster's targets, or the next list of its namespaces, is due."""
        due = [self.of(target).next_due for target in self.targets_of(cluster)]
        if cluster.selectors:
            due.append(self.search.next_due if self.search else NEVER)
        return min(due)

    def targets_of(self, cluster: Cluster) -> tuple[Target, ...]:
        """Return the cluster's named targets, and those that were found for selectors, removed ones too."""
        return cluster.list_targets(name for name, one in self.targets.items() if one.found)


_LIFE: Final = timedelta(hours=1)
_NEVER_TRIED: Final = TargetStatus()
UNKNOWN: Final = Status()
"""Of a cluster that was never tried."""
Statuses = Mapping[ClusterId, Status]


def pack(statuses: Statuses) -> bytes:
    """Return the statuses of a shard as compressed JSON. Targets that differ in uid and namespace alone share one
    entry, so an ordinary one costs some 40 bytes, and 25,000 of them fit into a row.
    """
    groups: dict[TargetStatus, dict[str, dict[str, _Own]]] = {}
    moved = {}
    for cluster, status in statuses.items():
        if status.located_at or status.search:
            moved[_key(cluster)] = status.model_copy(update={"targets": {}})
        for name, target in status.targets.items():
            group = groups.setdefault(target.model_copy(update={"uid": None, "found": None}), {})
            group.setdefault(_key(cluster), {})[name] = (target.uid, target.found) if target.found else target.uid
    packed = _Packed(groups=tuple(_Group(status=status, uids=uids) for status, uids in groups.items()), moved=moved)
    return zlib.compress(packed.to_json().encode(), level=1)


def unpack(data: bytes) -> dict[ClusterId, Status]:
    """Read what `pack` wrote. Raises InvalidRequest."""
    try:
        packed = _Packed.parse(zlib.decompress(data))
    except zlib.error as e:
        raise InvalidRequest(f"statuses: {e}") from None
    targets: dict[str, dict[str, TargetStatus]] = {}
    for group in packed.groups:
        for cluster, uids in group.uids.items():
            for name, own in uids.items():
                uid, found = own if isinstance(own, tuple) else (own, None)
                one = group.status.model_copy(update={"uid": uid, "found": found})
                targets.setdefault(cluster, {})[name] = one
    return {
        _cluster(key): packed.moved.get(key, UNKNOWN).model_copy(update={"targets": targets.get(key, {})})
        for key in {**targets, **packed.moved}
    }


_Own = str | tuple[str | None, Found] | None
"""What a target shares with no other: its uid, and how it was found."""


class _Group(Document):
    status: TargetStatus
    uids: dict[str, dict[str, _Own]]


class _Packed(Document):
    """moved: of clusters that Azure, or the API server for its namespaces, was asked for: all but the targets."""

    groups: tuple[_Group, ...] = ()
    moved: dict[str, Status] = Field(default_factory=dict)


def _key(cluster: ClusterId) -> str:
    return f"{cluster.subscription}|{cluster.resource_group}|{cluster.name}"


def _cluster(key: str) -> ClusterId:
    subscription, _, rest = key.partition("|")
    group, _, name = rest.partition("|")
    return ClusterId(subscription, group, name)
