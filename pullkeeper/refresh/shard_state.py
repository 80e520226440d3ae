"""What a run makes of a shard: the status of each cluster, the totals, and when the shard is due again."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from pullkeeper.fleet.shard_table import ShardState
from pullkeeper.model import Cluster, ClusterId
from pullkeeper.refresh.outcomes import Attempt, next_status
from pullkeeper.refresh.pace import period

_LIFE: Final = timedelta(hours=1)


def next_state(
    before: ShardState, members: Iterable[Cluster], attempts: Mapping[ClusterId, Attempt], now: datetime
) -> ShardState:
    """Return the shard with what has ended. Clusters that have left the fleet have no status any more."""
    statuses, states, due = {}, Counter[str](), []
    for wanted in members:
        cluster = wanted.cluster
        status = before.status(cluster)
        if cluster in attempts:
            status = next_status(status, wanted, attempts[cluster], now)
        statuses[cluster] = status
        states.update(status.of(target).state(now) for target in status.targets_of(wanted))
        due.append(status.next_due(wanted))
    return replace(
        before,
        next_due=min(due, default=now + period(_LIFE)),
        life=min((status.life for status in statuses.values()), default=_LIFE),
        states=states,
        statuses=statuses,
    )
