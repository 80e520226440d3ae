"""Phase: check the cluster (the guide's prerequisites), and enable workload identity if asked (its first step)."""

from pullkeeper.azure.clusters import ClusterFacts
from pullkeeper.errors import ClusterChanging, ClusterGone, ClusterStopped, ClusterTooOld, WorkloadIdentityOff
from pullkeeper.model import selectors_in
from pullkeeper.onboarding.work import Work

NAME = "inspect cluster"
_OLDEST = (1, 24)
_OLDEST_WITH_POLICIES = (1, 30)
"""Of Kubernetes with ValidatingAdmissionPolicy in version v1."""
_PRICE = (
    "The API server restarts. The issuer of service account tokens changes: pods that use such a token may need a "
    "restart. The OIDC issuer cannot be disabled again"
)
"""As `az aks update` and learn.microsoft.com/azure/aks/use-oidc-issuer warn."""


async def plan(work: Work) -> str:
    facts = await _check(work)
    if _is_as_wanted(work, facts):
        return _describe(facts)
    return f"would enable OIDC issuer and workload identity. {_PRICE}"


async def do(work: Work) -> str:
    """Raises ClusterChanging while Azure changes the cluster: the operation waits for that in later invocations."""
    facts = await _check(work)
    if _is_as_wanted(work, facts) and not (work.update_requested and facts.is_changing):
        enabled = (
            "; the issuer has changed: restart pods that use a service account token" if work.update_requested else ""
        )
        return f"{_describe(facts)}{enabled}"
    if facts.is_changing:
        raise ClusterChanging(f"Azure is changing the cluster ({facts.provisioning_state})")
    if work.update_requested and facts.provisioning_state != "Succeeded":
        reason = facts.provisioning_error or f"provisioning state: {facts.provisioning_state}"
        raise WorkloadIdentityOff(f"Azure could not enable it: {reason}")
    if not work.update_requested:
        await work.tools.clusters.enable_workload_identity(work.cluster, facts)
        work.update_requested = True
    raise ClusterChanging(f"OIDC issuer and workload identity were requested, and are not on yet. {_PRICE}")


async def undo(work: Work) -> str:
    """Find the issuer. A cluster that is gone leaves its identity and federated credentials behind in Azure."""
    try:
        work.facts = work.facts or await work.tools.clusters.describe(work.cluster)
    except ClusterGone:
        work.reachable = False
        return "the cluster does not exist any more"
    work.issuer = work.facts.issuer or work.issuer
    return (
        "OIDC issuer and workload identity stay enabled: other pods may use them. The OIDC issuer cannot be disabled; "
        "workload identity can"
    )


def has_policies(work: Work) -> bool:
    """Whether the cluster has validating admission policies."""
    return work.facts is not None and work.facts.release >= _OLDEST_WITH_POLICIES


def _is_as_wanted(work: Work, facts: ClusterFacts) -> bool:
    """Whether workload identity is on, or no one asks for it: without a federated account nothing needs it."""
    return facts.has_workload_identity or not work.request.enable_workload_identity


async def _check(work: Work) -> ClusterFacts:
    facts = work.facts = work.facts or await work.tools.clusters.describe(work.cluster)
    work.issuer = facts.issuer
    if facts.release < _OLDEST:
        raise ClusterTooOld(f"Kubernetes {facts.version}: 1.24 is the oldest supported version")
    if selectors_in(work.request.targets) and not has_policies(work):
        reason = (
            "1.30 is the oldest version for namespaceSelector. Its role covers every namespace, and an older cluster "
            "has no ValidatingAdmissionPolicy to limit it to those that match. Name the namespaces, or upgrade"
        )
        raise ClusterTooOld(f"Kubernetes {facts.version}: {reason}")
    if facts.power_state != "Running":
        raise ClusterStopped(f"power state: {facts.power_state}")
    wanted = work.request.enable_workload_identity
    if work.request.federated_accounts and not (facts.has_workload_identity or wanted):
        off = [
            name
            for name, on in (("OIDC issuer", facts.issuer), ("workload identity", facts.workload_identity))
            if not on
        ]
        raise WorkloadIdentityOff(f"{' and '.join(off)} off")
    return facts


def _describe(facts: ClusterFacts) -> str:
    issuer = f"issuer {facts.issuer}" if facts.issuer else "OIDC issuer off"
    return f"Kubernetes {facts.version} in {facts.location}, {issuer}"
