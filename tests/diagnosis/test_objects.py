"""Objects that are another client's, broken, or of namespaces that a label selects."""

import json

import pytest

from local.breaks.cluster import OLD_SECRET
from pullkeeper.fleet.table import Member
from tests.diagnosis.conftest import Doctor, find_hop, format_hops, list_hops
from tests.onboarding.conftest import MERGE, NAMESPACE
from tests.refresh.test_selector import create, join, label, tick
from tests.world import World

pytestmark = pytest.mark.servers
_SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"


async def test_a_foreign_secret_that_is_to_be_adopted_is_no_conflict_unless_its_type_is_wrong(world: World) -> None:
    """One that is not to be adopted is a conflict, of whatever type."""
    cluster = await world.join("aks-1", adopt=True)
    examine = world.services.diagnostics.examine_cluster
    await cluster.admin.create_secret(NAMESPACE, "ar-pull-secret", OLD_SECRET)
    hop = find_hop(await examine(cluster.id), "secret")
    assert (hop.state, hop.category) == ("warning", None)
    await cluster.admin.delete_secret(NAMESPACE, "ar-pull-secret")
    opaque = {"metadata": {"name": "ar-pull-secret"}, "type": "Opaque", "data": {"a": "Yg=="}}
    await cluster.admin.call("POST", _SECRETS, opaque, manager="kubectl-create")
    hop = find_hop(await examine(cluster.id), "secret")
    assert (hop.state, hop.category) == ("failed", "secret_immutable")
    other = await world.join("aks-2")
    await other.admin.call("POST", _SECRETS, opaque, manager="kubectl-create")
    assert find_hop(await examine(other.id), "secret").category == "secret_conflict"


async def test_a_secret_whose_field_managers_were_cleared_is_ours_by_its_uid(world: World) -> None:
    """As it is to a refresh, which repairs it. Where they were only changed, no one may be known as the editor. A job
    in the cluster knows no uid.
    """
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    held = await cluster.admin.read_secret(NAMESPACE, "ar-pull-secret")
    [ours] = held["metadata"]["managedFields"]
    del ours["fieldsV1"]["f:data"]
    examine = world.services.diagnostics.examine_cluster
    for managers, editor in (([ours], "another client"), ([], "before-first-apply")):
        changed = {"metadata": {"managedFields": managers}}
        await cluster.admin.call("PATCH", f"{_SECRETS}/ar-pull-secret", changed, content_type=MERGE)
        hop = find_hop(await examine(cluster.id), "secret")
        assert (hop.state, hop.detail.partition(" has written")[0]) == ("warning", editor)
    by_job = cluster.member.cluster.model_copy(update={"refresher": "in-cluster"})
    await world.services.fleet.put(Member(by_job, cluster.member.endpoint))
    assert find_hop(await examine(cluster.id), "secret").category == "secret_conflict"
    await world.services.fleet.put(cluster.member)
    await world.refresh(cluster)
    assert find_hop(await examine(cluster.id), "secret").state == "ok"


async def test_a_configuration_differs_from_the_hubs_in_any_field_and_if_it_is_no_json(doctor: Doctor) -> None:
    cluster = await doctor.onboard()
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/gcp-credential-config"
    config = json.loads((await cluster.admin.call("GET", path))["data"]["credential-config.json"])
    for text, fields in (
        (json.dumps({**config, "token_url": "https://other.example/v1/token"}), "token_url"),
        ("{", ", ".join(config)),
    ):
        await cluster.admin.call("PATCH", path, {"data": {"credential-config.json": text}}, content_type=MERGE)
        hop = find_hop(await doctor.examine(cluster), "credential-config")
        assert (hop.state, hop.category) == ("failed", "object_drifted")
        assert hop.detail.endswith(f"differs from the hub's in {fields}")


async def test_of_selected_namespaces_the_accounts_are_their_owners_and_the_lost_ones_are_left_alone(
    world: World,
) -> None:
    """One that does not name the secret waits for a refresh. Without the one right for all namespaces, no secret is to
    blame.
    """
    cluster = await join(world)
    for name in ("team-a", "team-b", "team-c"):
        await create(cluster, name, pull="yes")
    await tick(world)
    await label(cluster, "team-c", pull="no")
    await tick(world)
    await cluster.admin.call("DELETE", "/api/v1/namespaces/team-b/serviceaccounts/default")
    edited = "/api/v1/namespaces/team-a/serviceaccounts/default"
    await cluster.admin.call("PATCH", edited, {"imagePullSecrets": None}, content_type=MERGE)
    examine = world.services.diagnostics.examine_cluster
    accounts = {hop.subject: hop for hop in list_hops(await examine(cluster.id), "service-account")}
    states = {name: hop.state for name, hop in accounts.items()}
    assert states == {"team-a/default": "failed", "team-b/default": "warning"}
    assert accounts["team-a/default"].evidence == {"imagePullSecrets": "none"}
    bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    names = [one["metadata"]["name"] for one in (await cluster.admin.call("GET", bindings))["items"]]
    for name in names:
        if name.startswith("pullkeeper"):
            await cluster.admin.call("DELETE", f"{bindings}/{name}")
    diagnosis = await examine(cluster.id)
    assert f"--as={world.cloud.app.principal_id};" in str(find_hop(diagnosis, "permission").remedy)
    assert {(hop.state, hop.because) for hop in list_hops(diagnosis, "secret")} == {("skipped", "permission")}, (
        format_hops(diagnosis)
    )
