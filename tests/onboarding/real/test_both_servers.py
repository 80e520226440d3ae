"""What depends on the API server's own rules: on the stand-in and on a real server."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
import pytest_asyncio

from local.azure.entra import Entra
from local.cloud import LocalCluster
from local.kubernetes.apiserver import Issuer
from pullkeeper.cluster.api import Api
from pullkeeper.cluster.ownership import managers
from tests.apiserver.running import Running, an_api_server
from tests.onboarding.conftest import (
    ACCOUNT,
    MERGE,
    WORKLOAD,
    Onboarding,
    create_namespace,
    create_service_account,
    describe,
    get_service_account,
    list_objects,
    step,
)

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]
LABEL = "app.kubernetes.io/managed-by"


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=["stand-in", pytest.param("real", marks=pytest.mark.real)]
)
async def server(request: pytest.FixtureRequest, tenant: tuple[Entra, Issuer]) -> AsyncIterator[Running | None]:
    """One real server for all tests, which use a namespace each. None: the stand-in that every cluster has."""
    if request.param == "stand-in":
        yield None
        return
    async with an_api_server(tenant[1]) as real:
        yield Running.of(real, real.name)


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(onboarding: Onboarding, server: Running | None) -> LocalCluster:
    return await onboarding.cluster("aks-1", server=server)


@pytest.fixture
def space() -> str:
    """A namespace that no other test has."""
    return f"t-{uuid.uuid4().hex[:12]}"


def targets(space: str, *secrets: str) -> list[dict[str, Any]]:
    named = secrets or ("ar-pull-secret",)
    return [{"namespace": space, "secret": name, "serviceAccounts": [ACCOUNT]} for name in named]


async def test_a_service_account_of_several_targets_names_each_secret_once(
    onboarding: Onboarding, cluster: LocalCluster, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All targets have read the account before the first of them writes. One try is enough."""
    secrets, write = ["a", "b", "c"], Api.json_patch
    all_have_read, waiting = asyncio.Barrier(len(secrets)), list(secrets)

    async def waits(self: Api, path: str, operations: Sequence[Mapping[str, Any]]) -> None:
        if waiting:
            waiting.pop()
            await all_have_read.wait()
        await write(self, path, operations)

    monkeypatch.setattr(Api, "json_patch", waits)
    for _ in range(2):
        body = {"cluster": str(cluster.id), "hub": "main", "targets": targets(space, *secrets)}
        ended = await onboarding.deliver((await onboarding.begin(body)).id)
        assert ended.status == "Succeeded", describe(ended)
        named = (await get_service_account(cluster, namespace=space))["imagePullSecrets"]
        assert sorted(one["name"] for one in named) == secrets


async def test_adopted_objects_keep_their_values_and_no_trace_of_ours(
    onboarding: Onboarding, cluster: LocalCluster, space: str
) -> None:
    """A Deployment without its image, or a ConfigMap without its data, would be useless."""
    await create_namespace(cluster, space)
    await create_service_account(cluster, space, metadata={"labels": {"team": "a"}})
    labels = {"app": "deepintshield"}
    pod = {"containers": [{"name": "deepintshield", "image": "example/theirs:1"}]}
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    deployment = f"/apis/apps/v1/namespaces/{space}/deployments"
    await cluster.admin.call("POST", deployment, {"metadata": {"name": "deepintshield"}, "spec": spec})
    config = f"/api/v1/namespaces/{space}/configmaps"
    theirs = {"metadata": {"name": "gcp-credential-config"}, "data": {"credential-config.json": "{}"}}
    await cluster.admin.call("POST", config, theirs)
    paths = f"{deployment}/deepintshield", f"{config}/gcp-credential-config"

    await onboarding.onboard(cluster, adopt=True, workload=WORKLOAD, targets=targets(space))
    during = [await cluster.admin.call("GET", path) for path in paths]
    assert during[0]["spec"]["template"]["spec"]["containers"][0]["image"] == WORKLOAD["image"]
    left = await onboarding.offboard_fully(cluster)

    after = [await cluster.admin.call("GET", path) for path in paths]
    assert [(one.get("spec"), one.get("data")) for one in after] == [
        (one.get("spec"), one.get("data")) for one in during
    ]
    for one in after:
        assert "pullkeeper" not in managers(one["metadata"])
        assert not [name for name in one["metadata"].get("annotations", {}) if "pullkeeper" in name]
    account = await get_service_account(cluster, namespace=space)
    assert (account["metadata"]["labels"], account["metadata"].get("annotations", {})) == ({"team": "a"}, {})
    kept, gone = "adopted fields keep their values", "our fields were removed"
    expected = {
        f"Deployment {space}/deepintshield: not created by Pullkeeper; {kept}",
        f"ConfigMap {space}/gcp-credential-config: not created by Pullkeeper; {kept}",
        f"ServiceAccount {space}/{ACCOUNT}: not created by Pullkeeper; {gone}",
    }
    assert set(left) >= expected, left


async def test_a_released_secret_is_not_adopted_again_without_asking(
    onboarding: Onboarding, cluster: LocalCluster, space: str
) -> None:
    await create_namespace(cluster, space)
    await cluster.admin.create_secret(space, "ar-pull-secret", '{"auths":{}}')
    await onboarding.onboard(cluster, adopt=True, targets=targets(space))
    written = await cluster.admin.read_secret(space, "ar-pull-secret")
    await onboarding.offboard_fully(cluster)

    after = await cluster.admin.read_secret(space, "ar-pull-secret")
    assert after["data"] == written["data"]
    assert (after["metadata"].get("labels"), after["metadata"].get("annotations")) == (None, None)
    assert managers(after["metadata"]) == {"kubectl-create"}

    await cluster.admin.edit_secret(space, "ar-pull-secret", '{"auths":{"theirs":{}}}')
    refused = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "targets": targets(space)})
    assert step(refused, "pull secret").category == "secret_conflict"


async def test_a_reference_that_existed_before_is_kept(
    onboarding: Onboarding, cluster: LocalCluster, space: str
) -> None:
    await create_namespace(cluster, space)
    await create_service_account(cluster, space, imagePullSecrets=[{"name": "ar-pull-secret"}])
    await onboarding.onboard(cluster, targets=targets(space))
    await onboarding.offboard_fully(cluster)
    assert f"/api/v1/secrets/{space}/ar-pull-secret" not in await list_objects(cluster)
    assert (await get_service_account(cluster, namespace=space))["imagePullSecrets"] == [{"name": "ar-pull-secret"}]


async def test_a_terminating_namespace_does_not_prevent_offboarding(
    onboarding: Onboarding, cluster: LocalCluster, space: str
) -> None:
    """`kubectl delete namespace` leaves it so if an object has a finalizer. Nothing can be created there any more,
    not even as a dry run.
    """
    await onboarding.onboard(cluster, targets=targets(space))
    held = {"metadata": {"name": "held", "finalizers": ["example.com/hold"]}}
    await cluster.admin.call("POST", f"/api/v1/namespaces/{space}/configmaps", held)
    terminating = await cluster.admin.call("DELETE", f"/api/v1/namespaces/{space}")
    assert terminating["status"]["phase"] == "Terminating"
    await cluster.admin.delete_secret(space, "ar-pull-secret")
    await onboarding.offboard_fully(cluster)
    assert onboarding.identity() is None


async def test_replicas_of_another_field_manager_are_kept(
    onboarding: Onboarding, cluster: LocalCluster, space: str
) -> None:
    """An autoscaler, for instance. A new image is still deployed."""
    await onboarding.onboard(cluster, workload=WORKLOAD, targets=targets(space))
    path = f"/apis/apps/v1/namespaces/{space}/deployments/deepintshield"
    autoscaler = {"content_type": MERGE, "manager": "kube-controller-manager"}
    await cluster.admin.call("PATCH", path, {"spec": {"replicas": 9}}, **autoscaler)
    newer = {"image": "europe-docker.pkg.dev/p/r/app:2"}
    await onboarding.onboard(cluster, workload=newer, targets=targets(space))
    spec = (await cluster.admin.call("GET", path))["spec"]
    assert (spec["replicas"], spec["template"]["spec"]["containers"][0]["image"]) == (9, newer["image"])
