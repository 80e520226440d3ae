"""The diagnosis of a real API server: its calls are understood, and pods are found as the kubelet reports them."""

from typing import Any

from local.breaks.cluster import waiting_pod
from local.cloud import LocalCluster
from pullkeeper.diagnosis.report import Diagnosis
from tests.contract.conversation import Caller
from tests.diagnosis.conftest import find_hop, format_hops, list_hops
from tests.real.conftest import ACCOUNT, Join
from tests.world import World

_MERGE = "application/merge-patch+json"
_RBAC = "rbac.authorization.k8s.io"


async def _examine(world: World, cluster: LocalCluster) -> Diagnosis:
    return await world.services.diagnostics.examine_cluster(cluster.id)


async def test_the_smallest_role_shows_what_a_refresh_needs(world: World, join: Join) -> None:
    """And the server refuses everything else."""
    cluster = await join()
    await world.refresh(cluster)
    diagnosis = await _examine(world, cluster)
    states = {hop.name: hop.state for hop in diagnosis.hops}
    hidden = [name for name, state in states.items() if state == "skipped"]
    assert hidden == ["namespace", "credential-config", "pods"], format_hops(diagnosis)
    wrong = {hop.name: hop.detail for hop in diagnosis.hops if hop.state in {"failed", "warning"}}
    assert wrong == {"service-account": f"serviceaccount/{ACCOUNT}: it does not exist"}, format_hops(diagnosis)
    assert find_hop(diagnosis, "secret").evidence["field managers"] == "pullkeeper"


async def test_pods_that_wait_are_found(world: World, join: Join, admin: Caller) -> None:
    """One with the secret, and one that was created before its account named it."""
    cluster = await join()
    await world.refresh(cluster)
    await _show_pods(world, admin)
    place, hub = f"/api/v1/namespaces/{cluster.target.namespace}", world.cloud.hubs["main"]
    account = {"metadata": {"name": ACCOUNT}, "imagePullSecrets": [{"name": cluster.target.secret}]}
    assert (await admin.post(f"{place}/serviceaccounts", account)).status == 201
    image = f"{hub.document['registries'][0]}/{hub.image}:latest"
    for name, secrets in (("early", []), ("late", [{"name": cluster.target.secret}])):
        await _start_pod(admin, place, name, waiting_pod(image, "2026-11-29T03:00:00Z"), secrets)
    hops = {hop.subject: hop for hop in list_hops(await _examine(world, cluster), "pods")}
    early = hops[f"{cluster.target.namespace}/early"]
    assert (early.state, early.category, early.evidence["imagePullSecrets"]) == (
        "warning",
        "image_pull_failing",
        "none",
    )
    assert early.evidence["since"] == "2026-11-29T03:00:00Z"
    assert f"kubectl delete pod early -n {cluster.target.namespace}" in str(early.remedy)
    late = hops[f"{cluster.target.namespace}/late"]
    assert "it has the secret" in late.detail
    assert hops[cluster.target.namespace].detail == "2 pods, 2 of them wait"


async def _show_pods(world: World, admin: Caller) -> None:
    """Grant what the remedy of a skipped hop says."""
    place, name = f"/apis/{_RBAC}/v1", "pullkeeper-diagnosis-pods"
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
    reference = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": name}
    subject = {"apiGroup": _RBAC, "kind": "User", "name": world.cloud.app.principal_id}
    for kind, body in (
        ("clusterroles", {"rules": [rule]}),
        ("clusterrolebindings", {"roleRef": reference, "subjects": [subject]}),
    ):
        assert (await admin.post(f"{place}/{kind}", {"metadata": {"name": name}, **body})).status == 201


async def _start_pod(admin: Caller, place: str, name: str, pod: dict[str, Any], secrets: list[dict[str, str]]) -> None:
    """Create a pod, and report its status as the kubelet does."""
    spec = {**pod["spec"], "imagePullSecrets": secrets}
    created = await admin.post(f"{place}/pods", {"metadata": {"name": name}, "spec": spec})
    assert created.status == 201, created.text
    status = {"status": pod["status"]}
    reported = await admin.send("PATCH", f"{place}/pods/{name}/status", status, content_type=_MERGE)
    assert reported.status == 200, reported.text
