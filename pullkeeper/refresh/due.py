"""Which targets of a cluster a message asks for."""

from collections.abc import Sequence
from datetime import datetime

from pullkeeper.fleet.queues import RefreshMessage
from pullkeeper.fleet.status import Status, TargetStatus
from pullkeeper.model import Cluster, Target


def pick_due(message: RefreshMessage, cluster: Cluster, status: Status, now: datetime) -> Sequence[Target]:
    """Return the targets to refresh. A message that names a cluster asks for all of it, until it continues."""
    if message.cluster not in {None, cluster.cluster}:
        return ()
    return [target for target in status.targets_of(cluster) if _is_due(message, status.of(target), now)]


def is_search_due(message: RefreshMessage, cluster: Cluster, status: Status, now: datetime) -> bool:
    """Whether to list the cluster's namespaces. A further try of what has failed lists again only where that failed."""
    if message.cluster not in {None, cluster.cluster} or not cluster.selectors:
        return False
    search = status.search
    if search is None or _asks_for_all(message):
        return True
    return search.next_due <= now and (message.reason != "retry" or search.failures > 0)


def _asks_for_all(message: RefreshMessage) -> bool:
    return not message.since and (message.cluster is not None or message.reason == "manual")


def _is_due(message: RefreshMessage, target: TargetStatus, now: datetime) -> bool:
    """Whether the target is to be refreshed. A manual message that continues leaves what was refreshed since it began,
    and what has failed and waits. One that was removed is looked at in its own time.
    """
    if not target.removed_at and _asks_for_all(message):
        return True
    if target.removed_at or not message.since:
        return target.next_due <= now
    was_refreshed = target.last_success and target.last_success >= message.since
    return not (was_refreshed or (target.failures and target.next_due > now))
