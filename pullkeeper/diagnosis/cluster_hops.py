"""The hops to a cluster: its API server, whom that takes us for, and what we may do there."""

from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from pullkeeper.azure.clusters import ClusterFacts
from pullkeeper.cluster import rights
from pullkeeper.cluster.api import Api
from pullkeeper.diagnosis.course import Blocked, Course, Step, build_hop, skipped
from pullkeeper.diagnosis.patient import EVERYWHERE, Namespaces, Patient, know_namespaces
from pullkeeper.diagnosis.report import Hop, HopName
from pullkeeper.diagnosis.tools import Tools
from pullkeeper.diagnosis.view import View, examine_all
from pullkeeper.errors import (
    ClusterGone,
    ClusterMoved,
    ClusterRbacDenied,
    ClusterTlsUntrusted,
    ClusterUnreachable,
    PullkeeperError,
)
from pullkeeper.fleet.status import Status
from pullkeeper.fleet.table import Member
from pullkeeper.model import Cluster, ClusterId, Endpoint, Target
from pullkeeper.refresh.attempt import newest_endpoint

_ANY_RIGHT: Final = ("get", "", "namespaces")
"""Everyone may ask whether they have it."""
_UNREACHABLE: Final = (ClusterTlsUntrusted, ClusterUnreachable)


@dataclass(frozen=True, slots=True)
class Right:
    """A right that a refresh needs. namespace: "" for all of them. name: "" for all objects."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str

    async def is_granted(self, api: Api) -> bool:
        return await api.is_allowed(self.verb, self.group, self.resource, self.namespace, self.name)

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{f'/{self.name}' if self.name else ''}"


async def check_api_server(
    course: Course, tools: Tools, member: Member, status: Status, facts: Step[ClusterFacts]
) -> Endpoint:
    """Look up its name and check its certificate, without telling who we are. A server that has moved is looked for in
    Azure, as a refresh does. One whose cluster is stopped or gone is not to blame.
    """
    cluster, known = member.cluster.cluster, newest_endpoint(member, status)
    try:
        endpoint = await _find_server(tools, cluster, known)
    except _UNREACHABLE as e:
        if await _is_down(course, facts):
            raise Blocked("cluster-state") from None
        course.fail("api-server", e.with_context(cluster=str(cluster)), evidence=_describe(known))
        raise Blocked("api-server") from None
    if (endpoint.server, endpoint.ca) == (known.server, known.ca):
        detail = "its name resolves, and the cluster's CA has signed its certificate"
        course.add("api-server", "ok", detail, evidence=_describe(endpoint))
    else:
        detail = "the address or the CA has changed: the next refresh uses the new one, from Azure"
        evidence = {**_describe(endpoint), "earlier server": known.server}
        course.add("api-server", "warning", detail, evidence=evidence)
    return endpoint


async def _find_server(tools: Tools, cluster: ClusterId, known: Endpoint) -> Endpoint:
    try:
        await _knock(known)
    except (ClusterMoved, ClusterTlsUntrusted) as e:
        try:
            endpoint = await tools.access.locate(cluster)
        except PullkeeperError:
            raise e from None
        await _knock(endpoint)
        return endpoint
    return known


async def _knock(endpoint: Endpoint) -> None:
    """Make a call as no one. Every response proves name and certificate."""
    async with Api(endpoint, None) as api:
        try:
            await api.is_allowed(*_ANY_RIGHT)
        except _UNREACHABLE:
            raise
        except PullkeeperError:
            return


async def _is_down(course: Course, facts: Step[ClusterFacts]) -> bool:
    try:
        return (await course.need("api-server", facts)).power_state != "Running"
    except Blocked:
        return course.has_failed_with("cluster-state", ClusterGone)


def _describe(endpoint: Endpoint) -> dict[str, str]:
    return {"server": endpoint.server, "address as of": endpoint.read_at.isoformat()}


async def authenticate(
    course: Course,
    tools: Tools,
    endpoint: Step[Endpoint],
    identity: Step[None],
    *,
    cluster: ClusterId,
    opened: AsyncExitStack,
    admit: Callable[[View, str], Patient],
) -> Patient:
    """Ask for a right: everyone whom the server knows may do that. opened: closes the connections. admit: creates the
    patient, once view and principal are known.
    """
    name: HopName = "authentication"
    server = await course.need(name, endpoint)
    await course.need(name, identity)
    view = View(tools, cluster, server)
    opened.push_async_callback(view.close)
    patient = admit(view, await tools.access.principal())
    try:
        await view.open()
        await view.call(lambda api: api.is_allowed(*_ANY_RIGHT))
    except PullkeeperError as e:
        raise e.with_context(cluster=str(cluster), principal=patient.principal) from None
    if server.local_accounts:
        course.add(name, "ok", "by client certificate, as an administrator: the cluster has local accounts")
    else:
        evidence = {"user": patient.principal}
        course.add(name, "ok", "the server knows the identity that refreshes", evidence=evidence)
    return patient


async def check_permission(course: Course, opened: Step[Patient], namespaces: Step[Namespaces]) -> frozenset[str]:
    """Ask for each right that onboarding gives to the identity that refreshes. Returns the namespaces where one is
    missing.
    """
    name: HopName = "permission"
    patient = await course.need(name, opened)
    cluster, view, principal = patient.cluster, patient.view, patient.principal
    if cluster.refresher == "in-cluster":
        course.add(name, "skipped", f"the cluster refreshes its secrets itself. Ask: {_ask_for_job(cluster)}")
        return frozenset()
    if await view.call(lambda api: api.is_allowed("*", "*", "*")):
        course.add(name, "ok", "the identity that refreshes is an administrator of the cluster")
        return frozenset()
    first: dict[str, Target] = {}
    for target in patient.targets:
        first.setdefault(target.namespace, target)
    needed: dict[str, list[Right]] = {namespace: [] for namespace in ("", *first)}
    for right in _list_rights(cluster, principal):
        needed[right.namespace].append(right)
    found = await know_namespaces(course, name, namespaces)

    async def ask(namespace: str) -> Hop:
        if namespace and found.block(namespace):
            return skipped(name, "namespace", namespace)  # its role went with it
        missing = [right for right in needed[namespace] if not await view.call(right.is_granted)]
        evidence = {"user": principal, "needed": _join(needed[namespace]), "missing": _join(missing)}
        subject = namespace or EVERYWHERE
        if not missing:
            return build_hop(name, "ok", "all rights that a refresh needs", subject=subject, evidence=evidence)
        context = patient.context(first[namespace]) if namespace else {"principal": principal}
        failure = ClusterRbacDenied(f"the identity that refreshes may not {_join(missing)}", context)
        return course.explain(name, failure, subject=subject, evidence=evidence)

    hops, unseen = await examine_all((namespace for namespace in needed if needed[namespace]), ask)
    course.add_all(name, hops, what="namespaces", unseen=unseen)
    return frozenset(str(hop.subject) for hop in hops if hop.state == "failed")


def _ask_for_job(cluster: Cluster) -> str:
    target = cluster.named[0]
    account = f"system:serviceaccount:{target.namespace}:{target.account_names[0]}"
    return f"kubectl auth can-i patch secret/{target.secret} -n {target.namespace} --as={account}"


def _list_rights(cluster: Cluster, principal: str) -> Iterator[Right]:
    for manifest in rights.access(cluster.targets, principal):
        namespace = manifest["metadata"].get("namespace", "")
        for rule in manifest.get("rules", ()):
            for name in rule.get("resourceNames", [""]):
                for verb in rule["verbs"]:
                    yield Right(verb, rule["apiGroups"][0], rule["resources"][0], namespace, name)


def _join(needed: list[Right]) -> str:
    return ", ".join(map(str, needed)) or "nothing"
