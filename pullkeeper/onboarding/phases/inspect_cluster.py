"""Phase: is the cluster one that this can work on: the guide's prerequisites and its first step."""

import re

from pullkeeper.azure.clusters import ClusterFacts
from pullkeeper.errors import ClusterGone, ClusterStopped, ClusterTooOld, WorkloadIdentityOff
from pullkeeper.onboarding.work import Work

NAME = "inspect cluster"
_OLDEST = (1, 24)


async def plan(work: Work) -> str:
    facts = work.facts = await _checked(work)
    work.issuer = facts.issuer
    if facts.issuer and facts.workload_identity:
        return _told(facts)
    return "would switch on OIDC issuer and workload identity; the API server restarts, and it cannot be undone"


async def do(work: Work) -> str:
    facts = work.facts = await _checked(work)
    work.issuer = facts.issuer
    if facts.issuer and facts.workload_identity:
        return _told(facts)
    facts = work.facts = await work.tools.clusters.enable_workload_identity(work.cluster)
    work.issuer = facts.issuer
    return f"switched on OIDC issuer and workload identity; {_told(facts)}"


async def undo(work: Work) -> str:
    """A cluster that is gone has taken along what was in it; in Azure things are left of it all the same."""
    try:
        work.facts = await work.tools.clusters.describe(work.cluster)
    except ClusterGone:
        work.reachable = False
        return "the cluster is gone, and all that was in it"
    work.issuer = work.facts.issuer or work.issuer
    return "OIDC issuer and workload identity stay on: Azure cannot switch them off"


async def _checked(work: Work) -> ClusterFacts:
    facts = await work.tools.clusters.describe(work.cluster)
    at = {"cluster": str(work.cluster), "group": work.cluster.resource_group, "name": work.cluster.name}
    found = re.match(r"(\d+)\.(\d+)", facts.version)
    if not found or (int(found[1]), int(found[2])) < _OLDEST:
        raise ClusterTooOld(f"Kubernetes {facts.version}: 1.24 is the oldest that has what it takes", at)
    if facts.power_state != "Running":
        raise ClusterStopped(f"power state: {facts.power_state}", at)
    if not (facts.issuer and facts.workload_identity) and not work.request.enable_workload_identity:
        off = [
            name
            for name, on in (("OIDC issuer", facts.issuer), ("workload identity", facts.workload_identity))
            if not on
        ]
        raise WorkloadIdentityOff(f"{' and '.join(off)} off", at)
    return facts


def _told(facts: ClusterFacts) -> str:
    return f"Kubernetes {facts.version} in {facts.location}, issuer {facts.issuer}"
