"""What becomes of a secret whose namespace has lost the labels of its selector.

It stays, unless `prune` asks for its removal, and it expires with its token. It is deleted by its uid, once lists have
been complete for a token's whole life and none has shown the namespace, and where no other client has written it.
"""

from datetime import datetime
from typing import Final

from pullkeeper.cluster import pull_secret
from pullkeeper.cluster.api import Api
from pullkeeper.cluster.ownership import MANAGER
from pullkeeper.errors import AdmissionDenied, ClusterRbacDenied
from pullkeeper.fleet.status import Status
from pullkeeper.model import Cluster, Target
from pullkeeper.refresh.outcomes import Gone, Kept

_TOO_EARLY: Final = "to be removed, once lists of namespaces have been complete for a token's life"


async def remove_secret(api: Api, cluster: Cluster, target: Target, status: Status, now: datetime) -> Gone | Kept:
    """Look whether the secret still exists, and delete it where that was asked for and is safe. Raises ClusterError."""
    prune = any(selector.prune for selector in cluster.selectors if selector.secret == target.secret)
    try:
        seen = await pull_secret.look(api, target)
    except (AdmissionDenied, ClusterRbacDenied) as e:
        # Without prune we have no rights to a secret that exists there; with it, to those of ours.
        if prune and (e.retryable or isinstance(e, ClusterRbacDenied)):
            raise
        return Kept(f"not removed: {e.detail}" if prune else None)
    if seen is None:
        return Gone(deleted=False)
    if not prune:
        return Kept(None)
    if not _may_prune(target, status, now):
        return Kept(_TOO_EARLY)
    if seen.uid != status.of(target).uid or seen.managers != {MANAGER}:
        others = ", ".join(sorted(seen.managers - {MANAGER})) or "another client, which created it again"
        return Kept(f"not removed: it is also written by {others}")
    for account in target.account_names:
        await pull_secret.remove_reference(api, target, account)
    await api.delete(pull_secret.path(target), seen.uid)
    return Gone(deleted=True)


def _may_prune(target: Target, status: Status, now: datetime) -> bool:
    removed, search = status.of(target).removed_at, status.search
    complete = search.since if search else None
    return bool(removed and complete and max(removed, complete) + status.life <= now)
