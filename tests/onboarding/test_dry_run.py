"""`dryRun` says what would be done, and does nothing: not in Azure, not in the cluster, not in the fleet."""

from typing import Any

import pytest

from local.cloud import LocalCluster
from pullkeeper.azure.identities import OURS
from pullkeeper.onboarding.documents import Operation
from tests.onboarding.conftest import (
    IDENTITY,
    WORKLOAD,
    Onboarding,
    create_namespace,
    create_service_account,
    describe,
    identity_id,
    list_versions,
    step,
)

pytestmark = pytest.mark.servers


async def dry(onboarding: Onboarding, cluster: LocalCluster, **more: Any) -> Operation:
    """Run it dry. Fails if anything has changed."""
    arm = onboarding.world.cloud.arm
    writes, before, fleet = list(arm.writes), await list_versions(cluster), await onboarding.fleet()
    operation = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "dryRun": True, **more})
    assert operation.dry_run
    assert arm.writes == writes
    assert await list_versions(cluster) == before
    assert await onboarding.fleet() == fleet
    return operation


async def test_a_new_cluster(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    planned = await dry(onboarding, cluster, workload=WORKLOAD)
    assert planned.status == "Succeeded", describe(planned)
    assert {one.status for one in planned.steps} == {"planned"}
    assert all(one.detail for one in planned.steps)
    assert "ServiceAccount deepintshield/deepintshield-sa" in (step(planned, "manifests").detail or "")
    assert step(planned, "pull secret").detail == "would create deepintshield/ar-pull-secret"
    assert planned.result is not None
    assert planned.result.handover is not None
    after = await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    assert after.result is not None
    assert after.result.handover == planned.result.handover


async def test_an_onboarded_cluster(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    planned = await dry(onboarding, cluster)
    assert {one.status for one in planned.steps} == {"planned"}, describe(planned)
    assert step(planned, "federated credential").detail == f"already trusted as {IDENTITY}"
    assert step(planned, "pull secret").detail == "would refresh deepintshield/ar-pull-secret"
    assert step(planned, "manifests").detail == "all objects exist; would be kept up to date"


@pytest.mark.parametrize(("adopt", "verb"), [(False, "stop at"), (True, "adopt")])
async def test_a_secret_of_another_owner(onboarding: Onboarding, *, adopt: bool, verb: str) -> None:
    cluster = await onboarding.cluster("aks-1")
    await create_namespace(cluster)
    await cluster.admin.create_secret("deepintshield", "ar-pull-secret", '{"auths":{}}')
    planned = await dry(onboarding, cluster, adopt=adopt)
    expected = f"would {verb} deepintshield/ar-pull-secret, which belongs to kubectl-create"
    assert step(planned, "pull secret").detail == expected


async def test_an_issuer_that_is_still_off(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    azure = onboarding.azure(cluster)
    azure.oidc_issuer, azure.workload_identity = None, False
    etag = azure.etag
    planned = await dry(onboarding, cluster, enableWorkloadIdentity=True)
    assert {one.status for one in planned.steps} == {"planned"}, describe(planned)
    detail = step(planned, "inspect cluster").detail or ""
    assert "would enable" in detail
    assert "may need a restart" in detail
    assert "OIDC issuer cannot be disabled again" in detail
    assert step(planned, "federated credential").detail == (
        "would trust system:serviceaccount:deepintshield:deepintshield-sa of the issuer that is still off"
    )
    assert azure.etag == etag


async def test_an_onboarding_without_a_hub(onboarding: Onboarding) -> None:
    """Everything is planned, with the handover: planning needs no hub."""
    cluster = await onboarding.cluster("aks-1")
    planned = await dry(onboarding, cluster, hub=None)
    assert planned.status == "Succeeded", describe(planned)
    assert {one.status for one in planned.steps} == {"planned"}
    assert "would create Role deepintshield/pullkeeper-refresher" in str(step(planned, "refresher").detail)
    assert str(step(planned, "register").detail).startswith("would wait for the publisher's credential configuration")
    assert planned.result is not None
    assert planned.result.handover is not None


async def test_an_in_cluster_refresher_without_identity_and_hub(onboarding: Onboarding) -> None:
    """The publisher is not to trust the app's identity instead."""
    cluster = await onboarding.cluster("aks-1")
    planned = await dry(onboarding, cluster, hub=None, refresher="in-cluster")
    assert planned.status == "Succeeded", describe(planned)
    expected = "would hand over the cluster's identity, which does not exist yet"
    assert step(planned, "handover").detail == expected
    assert planned.result is not None
    assert planned.result.handover is None
    expected = "would be built from the publisher's credential configuration, which is still missing"
    assert step(planned, "refresher").detail == expected
    planned = await dry(onboarding, cluster, refresher="in-cluster")
    assert "would create CronJob deepintshield/refresh-ar-pull-secret" in str(step(planned, "refresher").detail)


async def test_offboarding_does_not_undo_a_dry_run(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    await dry(onboarding, cluster, targets=[{"namespace": "elsewhere"}], identity="another")
    ended = await onboarding.offboard(cluster)
    assert ended.status == "Succeeded", describe(ended)
    assert "elsewhere" not in describe(ended)
    assert "/api/v1/secrets/deepintshield/ar-pull-secret" not in await list_versions(cluster)
    assert onboarding.identity() is None


@pytest.mark.parametrize("refresher", ["central", "in-cluster"])
async def test_a_dry_offboarding_reports_exactly_what_the_real_one_does(onboarding: Onboarding, refresher: str) -> None:
    """The API server runs the same steps in dry runs."""
    cluster = await onboarding.cluster("aks-1")
    body = {"cluster": str(cluster.id), "hub": "main", "refresher": refresher, "workload": WORKLOAD}
    assert (await onboarding.run(body)).status == "Succeeded"
    arm = onboarding.world.cloud.arm
    writes, before, fleet = list(arm.writes), await list_versions(cluster), await onboarding.fleet()

    planned = await onboarding.offboard(cluster, dry_run=True)

    assert (arm.writes, await list_versions(cluster), await onboarding.fleet()) == (writes, before, fleet)
    assert (planned.status, planned.dry_run) == ("Succeeded", True), describe(planned)
    assert {one.status for one in planned.steps} == {"planned"}
    assert step(planned, "identity").detail == f"dry run: deleted {IDENTITY}"
    assert f"removed {IDENTITY}/deepintshield-federated-credential-" in str(
        step(planned, "federated credential").detail
    )
    gone = await onboarding.offboard(cluster)
    assert planned.result is not None
    assert gone.result is not None
    assert gone.result.left == planned.result.left
    details = [(one.detail or "").removeprefix("dry run: ") for one in planned.steps]
    assert details == [one.detail for one in gone.steps]


async def test_a_dry_offboarding_forgets_no_request(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    body = {"cluster": str(cluster.id), "hub": "main", "targets": [{"namespace": "team-a"}]}
    await onboarding.run(body)
    await onboarding.offboard(cluster, dry_run=True)
    await onboarding.run({**body, "targets": [{"namespace": "team-b"}]})
    await onboarding.offboard(cluster)
    assert [path for path in await list_versions(cluster) if "/team-a/" in path] == []


@pytest.mark.parametrize("chain", ["entra", "kubernetes"])
async def test_an_identity_that_exists_is_handed_over(onboarding: Onboarding, chain: str) -> None:
    """Or the cluster's issuer, which is on."""
    cluster = await onboarding.cluster("aks-1")
    ended = await onboarding.onboard(cluster, refresher="in-cluster", chain=chain)
    planned = await dry(onboarding, cluster, refresher="in-cluster", chain=chain)
    assert ended.result is not None
    assert planned.result is not None
    assert planned.result.handover == ended.result.handover


async def test_a_full_identity(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.fill_identity(20, "shop-pull", pullkeeper="shared")
    planned = await dry(onboarding, cluster, identity="shop-pull")
    assert (planned.status, step(planned, "federated credential").category) == ("Failed", "identity_limit")


async def test_a_service_account_of_another_owner(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    await create_namespace(cluster)
    await create_service_account(cluster, metadata={"annotations": {"azure.workload.identity/client-id": "theirs"}})
    planned = await dry(onboarding, cluster)
    detail = step(planned, "manifests").detail or ""
    assert "would stop at ServiceAccount deepintshield/deepintshield-sa: " in detail
    detail = step(await dry(onboarding, cluster, adopt=True), "manifests").detail or ""
    assert "would take over fields in ServiceAccount deepintshield/deepintshield-sa" in detail


async def test_a_handover_that_needs_an_issuer_that_is_still_off(onboarding: Onboarding) -> None:
    """The publisher is to trust the cluster's own tokens, whose issuer is not known yet."""
    cluster = await onboarding.cluster("aks-1")
    azure = onboarding.azure(cluster)
    azure.oidc_issuer, azure.workload_identity = None, False
    onboarding.world.cloud.arm.identities.add(identity_id(IDENTITY), tags=OURS)
    body = {"enableWorkloadIdentity": True, "refresher": "in-cluster", "chain": "kubernetes"}
    planned = await dry(onboarding, cluster, **body)
    assert planned.result is not None
    assert planned.result.handover is None
    assert step(planned, "handover").detail == "would hand over the cluster's issuer, which is still off"
