"""Offboarding removes everything that onboarding created, nothing else, and reports what is left with the reason."""

from datetime import timedelta
from typing import Any

import pytest
from azure.data.tables.aio import TableServiceClient

from local.azure.assertions import FederatedCredential
from local.cloud import LocalCluster
from local.kubernetes import recordings
from local.serving import Fault
from pullkeeper.azure.identities import OURS
from pullkeeper.errors import NotInFleet
from tests.onboarding.conftest import (
    ACCOUNT,
    GUIDE_IDENTITY,
    IDENTITY,
    SECRET,
    SUBJECT,
    WORKLOAD,
    Onboarding,
    create_namespace,
    create_service_account,
    describe,
    get_service_account,
    identity_id,
    list_content,
    list_objects,
    step,
)

pytestmark = pytest.mark.servers
NAMESPACE_KEPT = "Namespace deepintshield: kept, because it may hold other objects"


async def onboarded(onboarding: Onboarding, name: str = "aks-1", **more: Any) -> LocalCluster:
    cluster = await onboarding.cluster(name)
    await onboarding.onboard(cluster, **more)
    return cluster


async def test_everything_but_the_namespace_is_removed_and_can_be_created_again(
    onboarding: Onboarding,
) -> None:
    """Offboarding again changes nothing in between."""
    cluster = await onboarding.cluster("aks-1")
    before = set(await list_objects(cluster))
    await onboarding.onboard(cluster, workload=WORKLOAD)
    during = set(await list_objects(cluster))
    assert len(during - before) == 10

    left = await onboarding.offboard_fully(cluster)

    assert set(await list_objects(cluster)) - before == {"/api/v1/namespaces//deepintshield"}
    assert left == [NAMESPACE_KEPT]
    assert onboarding.identity() is None
    assert await onboarding.fleet() == set()
    with pytest.raises(NotInFleet):
        await onboarding.world.services.overview.one(cluster.id)

    writes, after = list(onboarding.world.cloud.arm.writes), await list_objects(cluster)
    for _ in range(2):
        again = await onboarding.offboard(cluster)
        assert again.result is not None
        assert again.result.left == (), "it was reported once, and nothing of ours is left"
        assert all(one.detail for one in again.steps), describe(again)
    assert onboarding.world.cloud.arm.writes == writes
    assert await list_objects(cluster) == after

    await onboarding.onboard(cluster, workload=WORKLOAD)
    assert set(await list_objects(cluster)) == during


async def test_a_cluster_that_was_never_onboarded_is_refused(onboarding: Onboarding) -> None:
    """Objects with our label there belong to another Pullkeeper."""
    cluster = await onboarding.cluster("aks-1")
    before = await list_objects(cluster)
    with pytest.raises(NotInFleet):
        await onboarding.offboard(cluster)
    assert await list_objects(cluster) == before
    assert onboarding.world.cloud.arm.writes == []


async def test_without_its_operations_a_cluster_is_offboarded_by_its_fleet_entry(onboarding: Onboarding) -> None:
    """Its targets in the fleet say what has to be removed."""
    cluster = await onboarding.cluster("aks-1")
    body = {"cluster": str(cluster.id), "hub": "main", "targets": [{"namespace": "team-a", "serviceAccounts": ["one"]}]}
    assert (await onboarding.run(body)).status == "Succeeded"
    async with TableServiceClient.from_connection_string(onboarding.world.storage) as tables:
        table = tables.get_table_client("operations")
        for entity in [entity async for entity in table.list_entities()]:
            await table.delete_entity(entity)
    await onboarding.offboard_fully(cluster)
    assert [path for path in await list_objects(cluster) if "/team-a/" in path or "pullkeeper-refresher" in path] == []


async def test_without_its_operations_the_refresher_in_a_cluster_is_removed(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "refresher": "in-cluster"})
    assert ended.status == "Succeeded", describe(ended)
    assert [path for path in await list_objects(cluster) if "/cronjobs/" in path]
    async with TableServiceClient.from_connection_string(onboarding.world.storage) as tables:
        table = tables.get_table_client("operations")
        for entity in [entity async for entity in table.list_entities()]:
            await table.delete_entity(entity)
    await onboarding.offboard_fully(cluster)
    assert [path for path in await list_objects(cluster) if "/cronjobs/" in path] == []


async def test_the_workload_is_kept_if_asked_and_removed_later(onboarding: Onboarding) -> None:
    cluster = await onboarded(onboarding, workload=WORKLOAD)
    await onboarding.offboard_fully(cluster, keep_workload=True)
    kept = {"/apis/apps/v1/deployments/deepintshield/deepintshield", "/api/v1/services/deepintshield/deepintshield"}
    assert kept <= set(await list_objects(cluster))
    assert SECRET not in await list_objects(cluster)
    await onboarding.offboard_fully(cluster)
    assert not kept & set(await list_objects(cluster))


async def test_objects_of_other_owners_are_as_before(onboarding: Onboarding) -> None:
    """Namespace, service account with a pull secret of its own, identity with a federated credential of its own."""
    arm = onboarding.world.cloud.arm
    cluster = await onboarding.cluster("aks-1")
    await create_namespace(cluster)
    account = {
        "metadata": {"name": "deepintshield-sa", "labels": {"team": "a"}, "annotations": {"note": "ours"}},
        "imagePullSecrets": [{"name": "other"}],
    }
    await cluster.admin.call("POST", "/api/v1/namespaces/deepintshield/serviceaccounts", account)
    identity = arm.identities.add(identity_id("shop-pull"), tags={"pullkeeper": "shared"})
    arm.federated_credentials.add(
        identity, "theirs", FederatedCredential("https://oidc.example/theirs/", SUBJECT, "api://x")
    )
    before = await list_content(cluster)
    await onboarding.onboard(cluster, identity="shop-pull")
    during = await get_service_account(cluster)
    assert during["metadata"]["labels"] == {"team": "a", "azure.workload.identity/use": "true"}
    assert set(during["metadata"]["annotations"]) == {"note", "azure.workload.identity/client-id"}
    assert during["imagePullSecrets"] == [{"name": "other"}, {"name": "ar-pull-secret"}]

    left = await onboarding.offboard_fully(cluster)

    assert await list_content(cluster) == before
    assert cluster.part.journal.count("PATCH", "/namespaces/deepintshield$") == 0
    assert onboarding.credentials("shop-pull") == {"theirs": ("https://oidc.example/theirs/", SUBJECT)}
    assert left == [
        "ServiceAccount deepintshield/deepintshield-sa: not created by Pullkeeper; our fields were removed",
        NAMESPACE_KEPT,
        "identity shop-pull: not created by Pullkeeper",
    ]


@pytest.mark.parametrize("kind", ["roles", "secrets"])
async def test_what_cannot_be_removed_at_the_moment_is_removed_by_the_next_try(
    onboarding: Onboarding, kind: str
) -> None:
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster)
    down = recordings.fault("webhook-down", method="DELETE", path=f"/{kind}/")
    down.times = 3
    cluster.part.faults.add(down)
    kept = await onboarding.offboard_fully(cluster)
    assert [line for line in kept if "refused" in line] == []
    assert not [path for path in await list_objects(cluster) if f"/{kind}/" in path]


async def test_a_list_with_a_name_of_ours_is_given_back(onboarding: Onboarding) -> None:
    """It has one field manager as a whole."""
    cluster = await onboarding.cluster("aks-1")
    await create_namespace(cluster)
    await create_service_account(cluster, imagePullSecrets=[{"name": "theirs"}])
    await onboarding.onboard(cluster, targets=[{"serviceAccounts": [ACCOUNT]}])
    await onboarding.offboard_fully(cluster)
    account = await get_service_account(cluster)
    assert account["imagePullSecrets"] == [{"name": "theirs"}]
    assert "pullkeeper" not in {entry["manager"] for entry in account["metadata"].get("managedFields", ())}


async def test_an_adopted_secret_and_its_references_are_kept(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    await create_namespace(cluster)
    await cluster.admin.create_secret("deepintshield", "ar-pull-secret", '{"auths":{}}')
    account = {"metadata": {"name": "deepintshield-sa"}, "imagePullSecrets": [{"name": "ar-pull-secret"}]}
    await cluster.admin.call("POST", "/api/v1/namespaces/deepintshield/serviceaccounts", account)
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "adopt": True})
    assert ended.status == "Succeeded", describe(ended)
    assert "adopted from kubectl-create" in (step(ended, "pull secret").detail or "")
    left = await onboarding.offboard_fully(cluster)
    assert SECRET in await list_objects(cluster)
    assert (await get_service_account(cluster))["imagePullSecrets"] == [{"name": "ar-pull-secret"}]
    assert left[0] == ("Secret deepintshield/ar-pull-secret and its references: also written by kubectl-create")


async def test_a_conflicting_secret_is_not_touched(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    await create_namespace(cluster)
    await cluster.admin.create_secret("deepintshield", "ar-pull-secret", '{"auths":{}}')
    before = await cluster.admin.read_secret("deepintshield", "ar-pull-secret")
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    assert (ended.status, step(ended, "pull secret").category) == ("Failed", "secret_conflict")
    await onboarding.offboard_fully(cluster)
    assert await cluster.admin.read_secret("deepintshield", "ar-pull-secret") == before
    patches = [one for one in cluster.part.journal.requests if one.method == "PATCH" and "/secrets/" in one.path]
    assert {one.headers["Content-Type"] for one in patches} == {"application/apply-patch+yaml"}


async def test_an_identity_that_another_cluster_uses_is_kept(onboarding: Onboarding) -> None:
    first, second = [await onboarded(onboarding, name, identity="shop-pull") for name in ("aks-1", "aks-2")]
    left = await onboarding.offboard_fully(first)
    assert set(onboarding.credentials("shop-pull").values()) == {(onboarding.azure(second).oidc_issuer, SUBJECT)}
    assert any(
        one.startswith("identity shop-pull: still used by deepintshield-federated-credential-aks-2-") for one in left
    )
    await onboarding.offboard_fully(second)
    assert onboarding.identity("shop-pull") is None


@pytest.mark.parametrize(("name", "wanted"), [(IDENTITY, {}), (GUIDE_IDENTITY, {"identity": GUIDE_IDENTITY})])
async def test_a_used_identity_is_reported_where_an_earlier_try_has_removed_the_clusters_credential(
    onboarding: Onboarding, name: str, wanted: dict[str, str]
) -> None:
    onboarding.fill_identity(1, name, **OURS)
    cluster = await onboarded(onboarding, **wanted)
    arm, identity = onboarding.world.cloud.arm, onboarding.identity(name)
    assert identity is not None
    [credential] = set(onboarding.credentials(name)) - {"other-0"}
    assert arm.federated_credentials.remove(identity, credential)
    assert f"identity {name}: still used by other-0" in await onboarding.offboard_fully(cluster)


async def test_an_identity_of_the_earlier_default_name_is_deleted_too(onboarding: Onboarding) -> None:
    """Clusters shared it. The last one to be offboarded removes it."""
    first, second = await onboarding.cluster("aks-1"), await onboarding.cluster("aks-2")
    for cluster in (first, second):
        await onboarding.onboard(cluster, identity=GUIDE_IDENTITY)
        await onboarding.onboard(cluster)
        assert onboarding.identity(f"{GUIDE_IDENTITY}-{cluster.id.name}") is None, "the one that trusts it stays"
    third = await onboarded(onboarding, "aks-3")
    assert await onboarding.offboard_fully(third) == [NAMESPACE_KEPT]
    [shared] = [one for one in await onboarding.offboard_fully(first) if one.startswith("identity ")]
    assert shared.startswith(f"identity {GUIDE_IDENTITY}: still used by deepintshield-federated-credential-aks-2-")
    assert await onboarding.offboard_fully(second) == [NAMESPACE_KEPT]
    assert onboarding.identity(GUIDE_IDENTITY) is None


async def test_the_fleet_entry_is_removed_first_so_that_no_refresh_creates_the_secret_again(
    onboarding: Onboarding,
) -> None:
    cluster = await onboarded(onboarding)
    cluster.part.faults.add(Fault(path="selfsubjectaccessreviews", status=403, times=1, body="{}"))
    ended = await onboarding.offboard(cluster)
    assert ended.status == "Failed"
    assert "offboard again: DELETE /api/clusters/" in str(step(ended, "cluster access").remedy)
    assert await onboarding.fleet() == set()
    onboarding.world.clock.advance(timedelta(hours=1))
    writes = cluster.part.journal.count("PATCH", "/secrets/")
    await onboarding.world.tick()
    assert writes == cluster.part.journal.count("PATCH", "/secrets/")
    await onboarding.offboard_fully(cluster)
    assert SECRET not in await list_objects(cluster)


@pytest.mark.parametrize("phase", ["federated credential", "pull secret"])
async def test_an_onboarding_that_failed_half_way_is_undone(onboarding: Onboarding, phase: str) -> None:
    cluster = await onboarding.cluster("aks-1")
    before = set(await list_objects(cluster))
    if phase == "pull secret":
        cluster.part.faults.add(Fault(path="/secrets/", status=403, body='{"message":"x cannot y"}'))
    else:
        onboarding.world.cloud.arm_part.faults.add(
            Fault(method="PUT", path="/federatedIdentityCredentials/", status=403, body="{}")
        )
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    assert (ended.status, step(ended, phase).status) == ("Failed", "failed")
    cluster.part.faults.clear()
    onboarding.world.cloud.arm_part.faults.clear()
    await onboarding.offboard_fully(cluster)
    assert set(await list_objects(cluster)) - before <= {"/api/v1/namespaces//deepintshield"}
    assert onboarding.identity() is None


async def test_an_onboarding_without_a_hub(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    await onboarding.run({"cluster": str(cluster.id)})
    assert onboarding.identity() is not None
    await onboarding.offboard_fully(cluster)
    assert onboarding.identity() is None


async def test_a_hub_that_is_no_longer_configured_is_not_needed(onboarding: Onboarding) -> None:
    cluster = await onboarded(onboarding)
    onboarding.world.cloud.hubs.clear()
    await onboarding.restart()
    await onboarding.offboard_fully(cluster)
    assert "/api/v1/configmaps/deepintshield/gcp-credential-config" not in await list_objects(cluster)


async def test_a_deleted_cluster_leaves_nothing_in_azure(onboarding: Onboarding) -> None:
    first, second = [await onboarded(onboarding, name, identity="shop-pull") for name in ("aks-1", "aks-2")]
    onboarding.world.cloud.arm.clusters.remove(str(first.id))
    await onboarding.restart()
    asked = onboarding.world.cloud.identity_part.journal.requests
    asked.clear()
    ended = await onboarding.offboard(first)
    assert ended.status == "Succeeded", describe(ended)
    assert {one.query["resource"].rstrip("/") for one in asked} == {"https://management.azure.com"}
    skipped = [(one.name, one.detail) for one in ended.steps if one.status == "skipped"]
    names = ("retire", "workload", "refresher", "pull secret", "manifests")
    assert skipped == [(name, "skipped: the app cannot reach the cluster") for name in names]
    assert set(onboarding.credentials("shop-pull").values()) == {(onboarding.azure(second).oidc_issuer, SUBJECT)}
    assert await onboarding.fleet() == {str(second.id)}


async def test_a_silent_cluster_gets_a_second_try_and_is_then_reported_as_left(onboarding: Onboarding) -> None:
    cluster = await onboarded(onboarding, workload=WORKLOAD)
    await cluster.server.stop()
    begun = await onboarding.world.services.onboarder.offboard(cluster.id, keep_workload=False)
    between = await onboarding.deliver(begun.id)
    assert step(between, "cluster access").category == "cluster_unreachable"
    ended = await onboarding.process(begun.id)
    assert ended.status == "Succeeded", describe(ended)
    assert ended.result is not None
    reason = "the cluster does not answer (cluster_unreachable); offboard again once it does"
    assert f"Secret deepintshield/ar-pull-secret: {reason}" in ended.result.left
    assert f"ServiceAccount deepintshield/deepintshield-sa: {reason}" in ended.result.left
    assert f"RoleBinding deepintshield/pullkeeper-refresher: {reason}" in ended.result.left
    assert f"Deployment deepintshield/deepintshield: {reason}" in ended.result.left
    assert onboarding.identity() is None

    await cluster.server.start()
    await onboarding.offboard_fully(cluster)
    assert not [path for path in await list_objects(cluster) if "/deepintshield/" in path]


async def test_a_stopped_cluster_does_not_delay_the_removal_in_azure(onboarding: Onboarding) -> None:
    cluster = await onboarded(onboarding)
    onboarding.azure(cluster).power_state = "Stopped"
    left = await onboarding.offboard_fully(cluster)
    assert any("cluster_stopped" in one for one in left)
    assert onboarding.identity() is None
