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
    targets = status.targets_of(cluster)
    if message.cluster and not message.since:
        return targets
    return [target for target in targets if _is_due(message, status.of(target), now)]


def _is_due(message: RefreshMessage, target: TargetStatus, now: datetime) -> bool:
    """Whether the target is to be refreshed. A manual message that continues leaves what was refreshed since it began,
    and what has failed and waits.
    """
    if message.reason != "manual":
        return target.next_due <= now
    was_refreshed = message.since and target.last_success and target.last_success >= message.since
    return not (was_refreshed or (message.since and target.failures and target.next_due > now))
