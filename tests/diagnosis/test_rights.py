"""What no identity may see is skipped, with the command that would allow it; a diagnosis needs no right of its own."""

import shlex
from dataclasses import replace

import pytest

from local.azure.arm import CLUSTER_USER, ONBOARDER, READER
from local.cloud import GROUP, SUBSCRIPTION, LocalCluster
from local.hops import break_hop
from local.kubernetes import recordings
from local.serving import Fault
from pullkeeper.diagnosis.report import Hop, HopName
from pullkeeper.model import Target
from pullkeeper.service_accounts import ServiceAccount
from tests.diagnosis.conftest import Doctor, find_hop, format_hops, list_hops
from tests.onboarding.conftest import MERGE
from tests.world import World

pytestmark = pytest.mark.servers
_RBAC = "rbac.authorization.k8s.io"


async def _take_away_onboarding(doctor: Doctor, cluster: LocalCluster) -> None:
    """As docs/security.md recommends between onboardings: in the cluster and in Azure."""
    await cluster.admin.call("DELETE", f"/apis/{_RBAC}/v1/clusterrolebindings/platform-team")
    cloud = doctor.world.cloud
    cloud.arm.unassign(cloud.onboarder.principal_id, f"/subscriptions/{SUBSCRIPTION}", ONBOARDER)


async def _follow(cluster: LocalCluster, remedy: str | None) -> None:
    """Do what `kubectl create clusterrole` and `clusterrolebinding` of a remedy do."""
    words = shlex.split(str(remedy))
    name, user = words[words.index("clusterrole") + 1], words[-1].removeprefix("--user=")
    flags = dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--"))
    rule = {"apiGroups": [""], "resources": [flags["resource"]], "verbs": flags["verb"].split(",")}
    names = {"resourceNames": [flags["resource-name"]]} if "resource-name" in flags else {}
    role = {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": [rule | names]}
    await cluster.admin.apply(role)
    reference = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": name}
    subject = {"apiGroup": _RBAC, "kind": "User", "name": user}
    binding = {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name}}
    await cluster.admin.apply({**binding, "roleRef": reference, "subjects": [subject]})


async def test_what_no_identity_may_see_is_skipped_with_the_role_that_allows_it(doctor: Doctor) -> None:
    """With the rights to refresh alone, and where Entra no longer knows who onboards. Following the remedies shows all
    of it. An account without a client id is wrong, whichever is right.
    """
    cluster = await doctor.onboard()
    await _take_away_onboarding(doctor, cluster)
    diagnosis = await doctor.examine(cluster)
    hidden = {hop.name: hop for hop in diagnosis.hops if hop.state == "skipped"}
    assert hidden.keys() == {"federated-credential", "namespace", "credential-config", "pods"}, format_hops(diagnosis)
    assert diagnosis.state == "ok", format_hops(diagnosis)
    async with break_hop(doctor.world.cloud, cluster, "service-account", "annotation"):
        doctor.world.cloud.identity.unassign(doctor.world.cloud.onboarder)
        await doctor.onboarding.restart()
        first = len(doctor.world.cloud.identity_part.journal.requests)
        unknown = await doctor.examine(cluster)
        doctor.world.cloud.identity.assign(doctor.world.cloud.onboarder)
    queries = [tuple(one.query.items()) for one in doctor.world.cloud.identity_part.journal.requests[first:]]
    assert len(queries) == len({*queries}) > 0, "no token is asked for twice"
    assert find_hop(unknown, "service-account").state == "failed"
    assert [find_hop(unknown, name).state for name in ("namespace", "pods")] == ["skipped"] * 2, format_hops(unknown)
    subjects: dict[HopName, str | None] = {
        "namespace": None,
        "credential-config": "deepintshield/gcp-credential-config",
        "pods": "deepintshield",
    }
    for name, subject in subjects.items():
        assert (hidden[name].category, hidden[name].subject) == ("cluster_rbac_denied", subject)
        await _follow(cluster, hidden[name].remedy)
    cloud, azure = doctor.world.cloud, hidden["federated-credential"]
    group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    assert (azure.category, str(azure.remedy)[-len(group) :]) == ("arm_denied", group)
    assert f"--assignee-object-id {cloud.onboarder.principal_id}" in str(azure.remedy)
    cloud.arm.assign(cloud.onboarder.principal_id, group, READER)
    after = await doctor.examine(cluster)
    assert {hop.state for hop in after.hops} == {"ok"}, format_hops(after)


async def test_a_cluster_that_azure_does_not_show_is_looked_at_all_the_same(doctor: Doctor) -> None:
    """The address is known. Issuer and credentials depend on Azure."""
    cluster = await doctor.onboard()
    cloud = doctor.world.cloud
    cloud.arm.unassign(cloud.app.principal_id, str(cluster.id), CLUSTER_USER)
    diagnosis = await doctor.examine(cluster)
    state = find_hop(diagnosis, "cluster-state")
    assert (state.state, state.category) == ("skipped", "arm_denied")
    assert f"--assignee-object-id {cloud.app.principal_id}" in str(state.remedy)
    skipped = {hop.name: hop.because for hop in diagnosis.hops if hop.state != "ok" and hop is not state}
    assert skipped == dict.fromkeys(("oidc-issuer", "federated-credential"), "cluster-state"), format_hops(diagnosis)
    await cluster.server.stop()
    assert find_hop(await doctor.examine(cluster), "api-server").state == "failed", "Azure has not said that it is down"
    with cloud.arm_part.faults.inject(Fault(path="/managedClusters/")):
        diagnosis = await doctor.examine(cluster)
    assert [find_hop(diagnosis, name).state for name in ("cluster-state", "api-server")] == ["failed"] * 2


async def test_the_permission_is_that_of_the_identity_that_refreshes(doctor: Doctor) -> None:
    """The one that onboards is administrator, which helps no refresh."""
    cluster = await doctor.onboard()
    role = f"/apis/{_RBAC}/v1/namespaces/deepintshield/roles/pullkeeper-refresher"
    held = await cluster.admin.call("GET", role)
    await cluster.admin.call("PATCH", role, {"rules": held["rules"][:1]}, content_type=MERGE)
    hop = find_hop(await doctor.examine(cluster), "permission")
    assert (hop.state, hop.category, hop.subject) == ("failed", "cluster_rbac_denied", "deepintshield")
    assert hop.evidence["missing"] == "get serviceaccounts/deepintshield-sa, patch serviceaccounts/deepintshield-sa"
    assert hop.evidence["needed"].startswith("patch secrets/ar-pull-secret, create secrets/ar-pull-secret, get")
    assert f"--as={doctor.world.cloud.app.principal_id}" in str(hop.remedy)


async def test_in_a_cluster_that_refreshes_itself_the_secret_is_hidden_too(doctor: Doctor) -> None:
    cluster = await doctor.onboard(refresher="in-cluster")
    await _take_away_onboarding(doctor, cluster)
    diagnosis = await doctor.examine(cluster)
    assert find_hop(diagnosis, "service-account").state == "skipped"
    hidden = find_hop(diagnosis, "secret")
    assert (hidden.state, hidden.category) == ("skipped", "cluster_rbac_denied")
    await _follow(cluster, hidden.remedy)
    assert find_hop(await doctor.examine(cluster), "secret").category == "object_drifted", (
        "it is looked at: it is missing"
    )


async def test_the_role_that_is_missing_in_one_namespace_is_named(world: World) -> None:
    """Those that need attention come first."""
    cluster = await world.join("aks-1", targets=[Target(namespace=name) for name in ("team-a", "team-b")])
    with cluster.part.faults.inject(recordings.fault("quota", path="/team-b/secrets/")):
        await world.refresh(cluster)
    well = list_hops(await world.services.diagnostics.examine_cluster(cluster.id), "permission")
    assert [(hop.subject, hop.state) for hop in well] == [("team-b", "ok"), ("team-a", "ok")]
    bindings = f"/apis/{_RBAC}/v1/namespaces/team-b/rolebindings"
    for binding in (await cluster.admin.call("GET", bindings))["items"]:
        await cluster.admin.call("DELETE", f"{bindings}/{binding['metadata']['name']}")
    diagnosis = await world.services.diagnostics.examine_cluster(cluster.id)
    hops = {hop.subject: hop.state for hop in list_hops(diagnosis, "permission")}
    assert hops == {"team-a": "ok", "team-b": "failed"}, format_hops(diagnosis)


async def test_the_stronger_identity_does_not_hide_what_the_refresh_would_meet(doctor: Doctor) -> None:
    """It is asked for what is forbidden, not after a failure. A refused login names the cluster."""
    cluster = await doctor.onboard()
    with cluster.part.faults.inject(replace(recordings.fault("unauthorized", path="/api/v1/namespaces$"), times=1)):
        diagnosis = await doctor.examine(cluster)
    assert find_hop(diagnosis, "namespace").state == "failed"
    assert {find_hop(diagnosis, name).state for name in ("service-account", "secret")} == {"ok"}, "they may be there"
    with cluster.part.faults.inject(recordings.fault("forbidden", path="/secrets/")):
        secret = find_hop(await doctor.examine(cluster), "secret")
    assert (secret.state, secret.category) == ("failed", "cluster_rbac_denied"), "though the server says it may"
    async with break_hop(doctor.world.cloud, cluster, "authentication"):
        remedy = str(find_hop(await doctor.examine(cluster), "authentication").remedy)
    assert f"--resource-group {cluster.id.resource_group} --name {cluster.id.name}" in remedy


async def test_what_depends_on_a_missing_permission_is_skipped(world: World) -> None:
    account = ServiceAccount(name="app", federate=True)
    cluster = await world.join("aks-1", access=False, targets=(Target(service_accounts=(account,)),))
    diagnosis = await world.services.diagnostics.examine_cluster(cluster.id)
    assert [hop.name for hop in diagnosis.hops if hop.state == "failed"] == ["permission"], format_hops(diagnosis)
    assert {find_hop(diagnosis, name).because for name in ("service-account", "secret")} == {"permission"}
    hidden = find_hop(diagnosis, "federated-credential")
    assert f"--assignee-object-id {world.cloud.app.principal_id}" in str(hidden.remedy)


async def test_a_cluster_with_the_smallest_role_shows_what_a_refresh_needs(world: World) -> None:
    """One identity, nothing but what refreshes: hops on the way of a refresh are looked at, and all others skipped."""
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    diagnosis = await world.services.diagnostics.examine_cluster(cluster.id)
    skipped: list[Hop] = [hop for hop in diagnosis.hops if hop.state == "skipped"]
    assert {hop.name for hop in skipped} == {"namespace", "credential-config", "pods"}, format_hops(diagnosis)
    assert {hop.state for hop in diagnosis.hops if hop not in skipped} == {"ok"}, format_hops(diagnosis)
    assert all("--user=" in str(hop.remedy) for hop in skipped)
    refused = [one.path for one in cluster.part.journal.requests if one.status == 403]
    assert len(refused) == len({*refused}) > 0, "the same identity does not ask twice"
