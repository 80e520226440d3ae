"""The same flow on a real API server: dry, real, repeated, killed anywhere, adopted from the guide, and undone."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from local.azure.entra import Entra
from local.cloud import LocalCluster
from local.kubernetes.apiserver import Issuer
from pullkeeper.onboarding.phases import OFFBOARD, ONBOARD
from tests.apiserver.running import Running, an_api_server
from tests.onboarding.conftest import (
    MERGE,
    WORKLOAD,
    Onboarding,
    describe,
    federated,
    list_content,
    list_objects,
    list_versions,
    step,
)
from tests.onboarding.test_cron_job import PATH, is_suspended, with_cron_job
from tests.onboarding.test_resume import kill_once

pytestmark = [pytest.mark.servers, pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tenant: tuple[Entra, Issuer]) -> AsyncIterator[Running]:
    """One server for all clusters. Each test has namespaces of its own."""
    async with an_api_server(tenant[1]) as real:
        yield Running.of(real, real.name)


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(onboarding: Onboarding, server: Running) -> LocalCluster:
    """A cluster, once its server has created its own objects."""
    cluster = await onboarding.cluster("aks-real", server=server)
    async with asyncio.timeout(20):
        while "/api/v1/services/default/kubernetes" not in await list_objects(cluster):  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.05)
    return cluster


async def test_planned_onboarded_onboarded_again_and_offboarded(onboarding: Onboarding, cluster: LocalCluster) -> None:
    by_label = {"namespaceSelector": {"matchLabels": {"team": "a"}}, "secret": "found", "prune": True}
    named = {"namespace": "planned", "serviceAccounts": federated("deepintshield-sa")}
    targets = [named, {**by_label, "serviceAccounts": ["default"]}]
    body = {"cluster": str(cluster.id), "hub": "main", "workload": WORKLOAD, "targets": targets}
    nothing = await list_versions(cluster)
    planned = await onboarding.run({**body, "dryRun": True})
    assert {one.status for one in planned.steps} == {"planned"}, describe(planned)
    assert await list_versions(cluster) == nothing

    ended = await onboarding.run(body)
    assert ended.status == "Succeeded", describe(ended)
    assert await cluster.admin.read_auths("planned", "ar-pull-secret")
    there = await list_versions(cluster)

    planned = await onboarding.run({**body, "dryRun": True})
    assert {one.status for one in planned.steps} == {"planned"}, describe(planned)
    assert await list_versions(cluster) == there
    again = await onboarding.run(body)
    assert again.status == "Succeeded", describe(again)
    assert await list_versions(cluster) == there

    planned = await onboarding.offboard(cluster, dry_run=True)
    assert {one.status for one in planned.steps} == {"planned"}, describe(planned)
    assert await list_versions(cluster) == there
    gone = await onboarding.offboard(cluster)
    assert gone.status == "Succeeded", describe(gone)
    assert set(await list_versions(cluster)) - set(nothing) == {"/api/v1/namespaces//planned"}


async def in_namespace(cluster: LocalCluster, name: str) -> dict[str, Any]:
    """Return the objects in the namespace, with its name replaced."""
    found = {path: item for path, item in (await list_content(cluster)).items() if f"/{name}/" in path}
    alike: dict[str, Any] = json.loads(json.dumps(found).replace(name, "NAMESPACE"))
    return alike


@pytest.mark.usefixtures("any_number_of_tries")
async def test_killed_before_and_after_every_phase_the_end_is_the_same(
    onboarding: Onboarding, cluster: LocalCluster, server: Running
) -> None:
    """Onboarding and offboarding, compared with a second cluster that is not killed."""
    whole, killed = await onboarding.cluster("aks-whole", server=server), cluster
    bodies = [
        {"cluster": str(one.id), "hub": "main", "workload": WORKLOAD, "targets": [target]}
        for one, target in (
            (whole, {"namespace": "whole", "serviceAccounts": ["app"]}),
            (killed, {"namespace": "killed", "serviceAccounts": ["app"]}),
        )
    ]
    assert (await onboarding.run(bodies[0])).status == "Succeeded"
    expected = await in_namespace(whole, "whole")
    assert len(expected) == 7

    for phases, doing in ((ONBOARD, "do"), (OFFBOARD, "undo")):
        onboarder = onboarding.world.services.onboarder
        begun = await (
            onboarding.begin(bodies[1]) if doing == "do" else onboarder.offboard(killed.id, keep_workload=False)
        )
        for phase in phases:
            for done in (False, True):
                await kill_once(onboarding, begun.id, phase, doing, done=done)
        ended = await onboarding.process(begun.id)
        assert ended.status == "Succeeded", describe(ended)
        assert await in_namespace(killed, "killed") == (expected if doing == "do" else {})
        assert await in_namespace(whole, "whole") == expected


async def test_the_guides_secret_is_adopted_in_place(onboarding: Onboarding, cluster: LocalCluster) -> None:
    await with_cron_job(cluster)
    before = await cluster.admin.read_secret("deepintshield", "ar-pull-secret")
    body = {"cluster": str(cluster.id), "hub": "main", "retireCronJob": True}
    refused = await onboarding.run(body)
    assert (refused.status, step(refused, "pull secret").category) == ("Failed", "secret_conflict")
    assert await cluster.admin.read_secret("deepintshield", "ar-pull-secret") == before
    assert not await is_suspended(cluster)

    ended = await onboarding.run({**body, "adopt": True})
    assert ended.status == "Succeeded", describe(ended)
    assert "adopted from kubectl-create" in (step(ended, "pull secret").detail or "")
    after = await cluster.admin.read_secret("deepintshield", "ar-pull-secret")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert (await onboarding.world.read_token(cluster)).startswith("ya29.")
    assert await is_suspended(cluster)

    gone = await onboarding.offboard(cluster)
    assert gone.result is not None
    assert "/api/v1/secrets/deepintshield/ar-pull-secret" in await list_objects(cluster)
    assert [one for one in gone.result.left if "also written by kubectl-create" in one]
    assert [one for one in gone.result.left if one.startswith(f"{PATH}: suspended by Pullkeeper.")]


async def test_a_full_quota_does_not_prevent_offboarding(onboarding: Onboarding, cluster: LocalCluster) -> None:
    """The secret is deleted already, so even the look at it, a dry run, would exceed the quota."""
    await onboarding.onboard(cluster, targets=[{"namespace": "full", "serviceAccounts": ["app"]}])
    await cluster.admin.delete_secret("full", "ar-pull-secret")
    quotas = "/api/v1/namespaces/full/resourcequotas"
    full: dict[str, Any] = {"metadata": {"name": "full"}, "spec": {"hard": {"secrets": "0"}}}
    await cluster.admin.call("POST", quotas, full)
    status = {"status": {"hard": {"secrets": "0"}, "used": {"secrets": "0"}}}
    await cluster.admin.call("PATCH", f"{quotas}/full/status", status, content_type=MERGE)
    with pytest.raises(AssertionError, match="exceeded quota"):
        await cluster.admin.create_secret("full", "another", '{"auths":{}}')
    await onboarding.offboard_fully(cluster)
    assert onboarding.identity() is None


async def test_conflicting_objects_are_reported_by_kind_and_name(onboarding: Onboarding, cluster: LocalCluster) -> None:
    await cluster.admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": "theirs"}})
    theirs = {"azure.workload.identity/client-id": "theirs"}
    account = {"metadata": {"name": "deepintshield-sa", "annotations": theirs}}
    await cluster.admin.call("POST", "/api/v1/namespaces/theirs/serviceaccounts", account)
    targets = [{"namespace": "theirs", "serviceAccounts": federated("deepintshield-sa")}]
    body = {"cluster": str(cluster.id), "hub": "main", "targets": targets}
    refused = step(await onboarding.run(body), "manifests")
    assert (refused.category, "serviceaccount/deepintshield-sa" in (refused.remedy or "")) == ("object_conflict", True)

    binding = {
        "metadata": {"name": "pullkeeper-refresher"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
    }
    bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/theirs/rolebindings"
    await cluster.admin.call("POST", bindings, binding)
    refused = step(await onboarding.run({**body, "adopt": True}), "refresher")
    assert refused.category == "object_conflict", refused
    assert "kubectl delete rolebinding/pullkeeper-refresher -n theirs" in (refused.remedy or "")
