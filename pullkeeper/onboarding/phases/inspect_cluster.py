"""Phase: check the cluster (the guide's prerequisites), and enable workload identity if asked (its first step)."""

import re

from pullkeeper.azure.clusters import ClusterFacts
from pullkeeper.errors import ClusterGone, ClusterStopped, ClusterTooOld, WorkloadIdentityOff
from pullkeeper.onboarding.work import Work

NAME = "inspect cluster"
_OLDEST = (1, 24)


async def plan(work: Work) -> str:
    facts = work.facts = await _check(work)
    work.issuer = facts.issuer
    if facts.issuer and facts.workload_identity:
        return _describe(facts)
    return "would enable OIDC issuer and workload identity; the API server restarts, and it cannot be undone"


async def do(work: Work) -> str:
    facts = work.facts = await _check(work)
    work.issuer = facts.issuer
    if facts.issuer and facts.workload_identity:
        return _describe(facts)
    facts = work.facts = await work.tools.clusters.enable_workload_identity(work.cluster)
    work.issuer = facts.issuer
    return f"enabled OIDC issuer and workload identity; {_describe(facts)}"


async def undo(work: Work) -> str:
    """Find the issuer. A cluster that is gone leaves its identity and federated credentials behind in Azure."""
    try:
        work.facts = await work.tools.clusters.describe(work.cluster)
    except ClusterGone:
        work.reachable = False
        return "the cluster does not exist any more"
    work.issuer = work.facts.issuer or work.issuer
    return "OIDC issuer and workload identity stay enabled: Azure cannot disable them"


async def _check(work: Work) -> ClusterFacts:
    facts = await work.tools.clusters.describe(work.cluster)
    at = {"cluster": str(work.cluster), "group": work.cluster.resource_group, "name": work.cluster.name}
    found = re.match(r"(\d+)\.(\d+)", facts.version)
    if not found or (int(found[1]), int(found[2])) < _OLDEST:
        raise ClusterTooOld(f"Kubernetes {facts.version}: 1.24 is the oldest supported version", at)
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


def _describe(facts: ClusterFacts) -> str:
    return f"Kubernetes {facts.version} in {facts.location}, issuer {facts.issuer}"
