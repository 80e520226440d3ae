"""The hops in Azure: the cluster, its issuer, and the federated credentials of its managed identity."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from pullkeeper.azure.clusters import ClusterFacts
from pullkeeper.azure.identities import ManagedIdentity
from pullkeeper.diagnosis.comparison import count_equal, describe_differences
from pullkeeper.diagnosis.course import Blocked, Course, Step, build_hop
from pullkeeper.diagnosis.report import Hop, HopName, HopState
from pullkeeper.diagnosis.tools import Tools
from pullkeeper.errors import (
    ArmDenied,
    ClusterChanging,
    ClusterStopped,
    FederatedCredentialMismatch,
    IdentityNotVisible,
    WorkloadIdentityOff,
)
from pullkeeper.model import Cluster, ClusterId


@dataclass(frozen=True, slots=True)
class AzureHops:
    """facts: also of a cluster that is stopped. client_ids: of the identities that may be the cluster's; None where no
    account is federated.
    """

    facts: Step[ClusterFacts]
    client_ids: Step[frozenset[str] | None]


def start_azure_hops(course: Course, tools: Tools, cluster: Cluster, identity: Step[None]) -> AzureHops:
    facts = course.start("cluster-state", _check_state(course, tools, cluster.cluster, identity))
    issuer = course.start("oidc-issuer", _check_issuer(course, cluster, facts))
    client_ids = course.start("federated-credential", _check_credentials(course, tools, cluster, issuer))
    return AzureHops(facts, client_ids)


def list_federated(cluster: Cluster) -> list[tuple[str, str]]:
    """Return namespace and name of each service account whose tokens Azure has to trust."""
    has_job = cluster.refresher == "in-cluster"
    accounts = ((one.namespace, name) for one in cluster.named for name in one.list_federated(has_job=has_job))
    return list(dict.fromkeys(accounts))


async def _check_state(course: Course, tools: Tools, cluster: ClusterId, identity: Step[None]) -> ClusterFacts:
    context = {"cluster": str(cluster)}
    await course.need("cluster-state", identity)
    try:
        facts = await tools.clusters.describe(cluster)
    except ArmDenied as e:
        course.fail("cluster-state", e.with_context(principal=await tools.access.principal()), "skipped")
        raise Blocked("cluster-state") from None
    evidence = {
        "version": facts.version,
        "power state": facts.power_state,
        "provisioning state": facts.provisioning_state,
        "provisioning error": facts.provisioning_error,
        "location": facts.location,
    }
    if facts.power_state != "Running":
        stopped = ClusterStopped(f"power state: {facts.power_state}", context)
        course.fail("cluster-state", stopped, evidence=evidence)
    elif facts.is_changing:
        changing = ClusterChanging(f"Azure is changing the cluster ({facts.provisioning_state})", context)
        course.fail("cluster-state", changing, "warning", evidence=evidence)
    else:
        state: HopState = "ok" if facts.provisioning_state == "Succeeded" else "warning"
        course.add("cluster-state", state, f"runs Kubernetes {facts.version}", evidence=evidence)
    return facts


async def _check_issuer(course: Course, cluster: Cluster, facts: Step[ClusterFacts]) -> str | None:
    found = await course.need("oidc-issuer", facts)
    evidence = {"issuer": found.issuer or "off", "workload identity": "on" if found.workload_identity else "off"}
    if not list_federated(cluster):
        course.add("oidc-issuer", "ok", "not needed: no service account is federated", evidence=evidence)
    elif not found.has_workload_identity:
        off = [
            name
            for name, on in (("OIDC issuer", found.issuer), ("workload identity", found.workload_identity))
            if not on
        ]
        failure = WorkloadIdentityOff(f"{' and '.join(off)} off", {"cluster": str(cluster.cluster)})
        course.fail("oidc-issuer", failure, evidence=evidence)
        raise Blocked("oidc-issuer")
    else:
        course.add("oidc-issuer", "ok", "OIDC issuer and workload identity are on", evidence=evidence)
    return found.issuer


async def _check_credentials(
    course: Course, tools: Tools, cluster: Cluster, issuer: Step[str | None]
) -> frozenset[str] | None:
    accounts = list_federated(cluster)
    if not accounts:
        course.add("federated-credential", "ok", "not needed: no service account is federated")
        return None
    url = await course.need("federated-credential", issuer) or ""
    trust = await tools.read_trust(cluster.cluster)
    try:
        held = await _list_credentials(tools, cluster.cluster, trust.identities)
    except ArmDenied as e:
        principal = await (tools.onboarding_access or tools.access).principal()
        hidden = IdentityNotVisible(e.detail, {**e.context, "principal": principal})
        course.fail("federated-credential", hidden, "skipped")
        raise Blocked("federated-credential") from None
    if not held:
        missing = f"the cluster's group has no managed identity {' or '.join(trust.identities)}"
        raise FederatedCredentialMismatch(missing, _context(cluster.cluster, trust.identities[-1]))
    audience = trust.audience or tools.cloud.exchange
    wanted = [_Trusted(url, f"system:serviceaccount:{namespace}:{name}", audience) for namespace, name in accounts]
    hops = (_compare(course, cluster.cluster, held, wanted, one) for one in wanted)
    course.add_all("federated-credential", hops, what="service accounts")
    used = {identity.client_id for identity, credentials in held if {*wanted}.intersection(credentials)}
    return frozenset(used or (identity.client_id for identity, _ in held))


@dataclass(frozen=True, slots=True)
class _Trusted:
    """What a federated credential trusts."""

    issuer: str
    subject: str
    audience: str

    @property
    def parts(self) -> dict[str, str]:
        return {"issuer": self.issuer, "subject": self.subject, "audience": self.audience}

    def likeness(self, other: "_Trusted") -> tuple[int, int]:
        """How many parts are equal, and then how many characters from the start of each."""
        pairs = [(value, other.parts[name]) for name, value in self.parts.items()]
        return sum(one == another for one, another in pairs), sum(count_equal(*pair) for pair in pairs)


_Held = list[tuple[ManagedIdentity, dict[_Trusted, str]]]
"""The identities that may be the cluster's, each with its credentials and their names."""


async def _list_credentials(tools: Tools, cluster: ClusterId, names: Sequence[str]) -> _Held:
    find = tools.identities.find
    found = await asyncio.gather(*(find(cluster.subscription, cluster.resource_group, name) for name in names))
    identities = [identity for identity in found if identity]
    credentials = await asyncio.gather(*map(tools.identities.list_credentials, identities))
    by_content = (
        {_Trusted(one.issuer, one.subject, one.audience): one.name for one in listed} for listed in credentials
    )
    return list(zip(identities, by_content, strict=True))


def _compare(course: Course, cluster: ClusterId, held: _Held, wanted: Sequence[_Trusted], one: _Trusted) -> Hop:
    """Compare the credential that a service account needs with the one that is most like it."""
    name: HopName = "federated-credential"
    subject = one.subject.removeprefix("system:serviceaccount:").replace(":", "/")
    others = {*wanted} - {one}
    found = [(identity, held_one) for identity, listed in held for held_one in listed if held_one not in others]
    identity, best = max(found, key=lambda pair: one.likeness(pair[1]), default=(held[0][0], None))
    context = _context(cluster, identity.name)
    about = {"identity": identity.name, "client id": identity.client_id, "object id": identity.principal_id}
    if best is None:
        failure = FederatedCredentialMismatch(f"{identity.name} has no federated credential for it", context)
        return course.explain(name, failure, subject=subject, evidence={**about, **one.parts})
    credential = next(listed[best] for _, listed in held if best in listed)
    evidence = {**about, "credential": credential, **describe_differences(one.parts, best.parts)}
    if best == one:
        return build_hop(name, "ok", f"{identity.name} trusts it", subject=subject, evidence=evidence)
    wrong = [part for part, value in one.parts.items() if best.parts[part] != value]
    detail = f"{credential}, the credential of {identity.name} that is most like it, has another {' and '.join(wrong)}"
    return course.explain(name, FederatedCredentialMismatch(detail, context), subject=subject, evidence=evidence)


def _context(cluster: ClusterId, identity: str) -> dict[str, str]:
    return {"subscription": cluster.subscription, "group": cluster.resource_group, "identity": identity}
