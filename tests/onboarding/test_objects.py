"""The objects that onboarding creates: the manifests, the guide's names, the smallest role."""

import json
from typing import Any

import pytest
import yaml

from local.kubernetes import recordings
from pullkeeper.cluster.api import Api
from pullkeeper.cluster.manifests import _FOLDER
from tests.onboarding.conftest import (
    MERGE,
    WORKLOAD,
    Onboarding,
    create_namespace,
    create_service_account,
    describe,
    get_service_account,
    list_content,
    step,
)

pytestmark = pytest.mark.servers
_ROLES = "/apis/rbac.authorization.k8s.io/v1"


def manifest(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return found


async def test_the_objects_are_the_manifests_with_values_filled_in(onboarding: Onboarding) -> None:
    """The API server refuses unknown fields in them."""
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster, workload=WORKLOAD)
    there, identity = await list_content(cluster), onboarding.identity()
    assert identity is not None

    account = there["/api/v1/serviceaccounts/deepintshield/deepintshield-sa"]
    wanted = manifest("service-account")["metadata"]
    assert account["metadata"]["labels"].items() >= wanted["labels"].items()
    assert account["metadata"]["annotations"] == {
        "azure.workload.identity/client-id": identity.service_principal.client_id
    }
    assert set(wanted["annotations"]) == set(account["metadata"]["annotations"])
    assert account["imagePullSecrets"] == [{"name": "ar-pull-secret"}]

    role = there[f"{_ROLES}/roles/deepintshield/pullkeeper-refresher"]
    assert role["rules"] == manifest("refresher-role")["rules"]
    assert not {"list", "watch", "delete", "*"} & {verb for rule in role["rules"] for verb in rule["verbs"]}
    assert all(rule["resourceNames"] for rule in role["rules"])
    assert not any("get" in rule["verbs"] and "secrets" in rule["resources"] for rule in role["rules"])

    binding = there[f"{_ROLES}/rolebindings/deepintshield/pullkeeper-refresher"]
    app = onboarding.world.cloud.app.principal_id
    expected = manifest("refresher-rolebinding")
    assert binding["subjects"] == [{**expected["subjects"][0], "name": app}]
    assert binding["roleRef"] == expected["roleRef"]

    config = there["/api/v1/configmaps/deepintshield/gcp-credential-config"]
    given = dict(onboarding.world.cloud.hubs["main"].document["credentialConfig"])
    given["credential_source"] = {**given["credential_source"], "format": {"type": "text"}}
    document = json.loads(config["data"]["credential-config.json"])
    assert {key: document[key] for key in given} == given
    assert set(config["data"]) == {"credential-config.json"}
    assert config["metadata"]["annotations"] == manifest("credential-config")["metadata"]["annotations"]

    applied = [
        request
        for request in cluster.part.journal.requests
        if request.headers.get("Content-Type") == "application/apply-patch+yaml"
        and "/secrets/" not in request.path
        and request.query.get("fieldManager") == "pullkeeper"
    ]
    assert len(applied) == 9
    assert {request.query.get("fieldValidation") for request in applied} == {"Strict"}


async def test_another_namespace_secret_and_account(onboarding: Onboarding) -> None:
    """A second account is named when the secret exists already."""
    cluster = await onboarding.cluster("aks-1")
    for accounts in (["one"], ["one", "two"]):
        target = {"namespace": "team-a", "secret": "pull", "serviceAccounts": accounts}
        ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "targets": [target]})
        assert ended.status == "Succeeded", describe(ended)
    role = (await list_content(cluster))[f"{_ROLES}/roles/team-a/pullkeeper-refresher"]
    assert [rule["resourceNames"] for rule in role["rules"]] == [["pull"], ["one", "two"]]
    for name in ("one", "two"):
        assert (await get_service_account(cluster, name, "team-a"))["imagePullSecrets"] == [{"name": "pull"}]


async def test_a_client_id_of_another_owner_is_kept_until_adopted(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    await create_namespace(cluster)
    theirs = {"azure.workload.identity/client-id": "theirs"}
    account = {"metadata": {"name": "deepintshield-sa", "annotations": theirs}}
    await cluster.admin.call("POST", "/api/v1/namespaces/deepintshield/serviceaccounts", account)
    body = {"cluster": str(cluster.id), "hub": "main"}
    ended = await onboarding.run(body)
    refused = step(ended, "manifests")
    assert (ended.status, refused.category) == ("Failed", "object_conflict")
    assert (refused.remedy or "").startswith("kubectl get serviceaccount/deepintshield-sa -n deepintshield ")
    assert (await get_service_account(cluster))["metadata"]["annotations"] == theirs
    assert (await onboarding.run({**body, "adopt": True})).status == "Succeeded"
    adopted = (await get_service_account(cluster))["metadata"]["annotations"]
    assert adopted["azure.workload.identity/client-id"] != "theirs"
    edit = {"metadata": {"annotations": theirs}}
    path = "/api/v1/namespaces/deepintshield/serviceaccounts/deepintshield-sa"
    await cluster.admin.call("PATCH", path, edit, content_type=MERGE, manager="kubectl-edit")
    ours = (one for one in cluster.part.journal.requests if one.query.get("fieldManager") == "pullkeeper")
    assert {one.query.get("fieldValidation") for one in ours if one.path == path and "force" in one.query} == {"Strict"}
    assert (await onboarding.run(body)).status == "Succeeded", "what was adopted once is ours without asking again"
    assert (await get_service_account(cluster))["metadata"]["annotations"] == adopted


async def test_an_object_that_another_client_creates_meanwhile_is_not_taken(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = await onboarding.cluster("aks-1")
    await create_namespace(cluster)
    theirs, find = {"azure.workload.identity/client-id": "theirs"}, Api.find

    async def find_too_early(self: Api, path: str) -> dict[str, Any] | None:
        found = await find(self, path)
        if path.endswith("/serviceaccounts/deepintshield-sa") and found is None:
            await create_service_account(cluster, metadata={"annotations": theirs})
        return found

    monkeypatch.setattr(Api, "find", find_too_early)
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    assert step(ended, "manifests").category == "object_conflict"
    assert (await get_service_account(cluster))["metadata"]["annotations"] == theirs


async def test_an_object_that_cannot_be_adopted_is_reported_with_its_command(onboarding: Onboarding) -> None:
    """A Deployment of that name with another selector, a role binding to another role."""
    cluster = await onboarding.cluster("aks-1")
    await create_namespace(cluster)
    labels = {"app": "theirs"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "deepintshield", "image": "theirs"}]}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    deployment = {"metadata": {"name": "deepintshield"}, "spec": spec}
    await cluster.admin.call("POST", "/apis/apps/v1/namespaces/deepintshield/deployments", deployment)
    body = {
        "cluster": str(cluster.id),
        "hub": "main",
        "adopt": True,
        "workload": {"image": "europe-docker.pkg.dev/a/b:1"},
    }
    refused = step(await onboarding.run(body), "workload")
    assert refused.category == "object_conflict", refused
    assert "kubectl delete deployment/deepintshield -n deepintshield" in (refused.remedy or "")
    assert await onboarding.fleet() == {str(cluster.id)}, "its secret is refreshed all the same"

    other = await onboarding.cluster("aks-2")
    await create_namespace(other)
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    binding = {"metadata": {"name": "pullkeeper-refresher"}, "roleRef": reference}
    await other.admin.call("POST", f"{_ROLES}/namespaces/deepintshield/rolebindings", binding)
    refused = step(await onboarding.run({"cluster": str(other.id), "hub": "main", "adopt": True}), "refresher")
    assert refused.category == "object_conflict", refused
    assert "kubectl delete rolebinding/pullkeeper-refresher -n deepintshield" in (refused.remedy or "")


async def test_a_policy_that_refuses_an_object_is_reported_with_the_object(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    path = "/configmaps/gcp-credential-config"
    cluster.part.faults.add(recordings.fault("webhook-denies", path=path, method="PATCH"))
    refused = step(await onboarding.run({"cluster": str(cluster.id), "hub": "main"}), "manifests")
    assert refused.category == "admission_denied", refused
    assert (refused.remedy or "").startswith("Exempt configmap/gcp-credential-config in namespace deepintshield from")


async def test_an_edit_of_our_object_is_reverted(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    body = {"cluster": str(cluster.id), "hub": "main"}
    await onboarding.run(body)
    path = f"{_ROLES}/namespaces/deepintshield/roles/pullkeeper-refresher"
    wide = {"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]}]}
    await cluster.admin.call("PATCH", path, wide, content_type="application/merge-patch+json")
    ended = await onboarding.run(body)
    assert ended.status == "Succeeded", describe(ended)
    assert (await cluster.admin.call("GET", path))["rules"] == manifest("refresher-role")["rules"]
