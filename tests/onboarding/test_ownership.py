"""Ownership: an object is ours if our field manager has set our label. No other object is removed or reported."""

import json

import pytest

from local.azurite import Azurite
from local.kubernetes import recordings
from local.serving import Fault
from pullkeeper.errors import NotInFleet
from tests.onboarding.conftest import (
    SECRET,
    Onboarding,
    create_namespace,
    create_service_account,
    describe,
    get_service_account,
    list_content,
    list_objects,
    step,
)

pytestmark = pytest.mark.servers
LABELS = {"app.kubernetes.io/managed-by": "pullkeeper"}
CONFIG = {"metadata": {"name": "gcp-credential-config", "labels": LABELS}, "data": {"credential-config.json": "{}"}}
CONFIGS = "/api/v1/namespaces/deepintshield/configmaps"


async def test_a_copied_label_does_not_make_an_object_ours(onboarding: Onboarding) -> None:
    """Not even with fields of ours, adopted or beside those of its owner."""
    cluster = await onboarding.cluster("aks-1")
    await create_namespace(cluster)
    await create_service_account(cluster, metadata={"labels": LABELS})
    await cluster.admin.call("POST", CONFIGS, CONFIG)
    await onboarding.onboard(cluster, adopt=True)
    left = await onboarding.offboard_fully(cluster)
    account = await get_service_account(cluster)
    assert (account["metadata"]["labels"], account["metadata"].get("annotations", {})) == (LABELS, {})
    assert "/api/v1/configmaps/deepintshield/gcp-credential-config" in await list_objects(cluster), left


async def test_an_adopted_role_is_not_ours(onboarding: Onboarding) -> None:
    """Its manifest has our label."""
    cluster = await onboarding.cluster("aks-1")
    await create_namespace(cluster)
    roles, role = "/apis/rbac.authorization.k8s.io/v1/namespaces/deepintshield/roles", "pullkeeper-refresher"
    await cluster.admin.call("POST", roles, {"metadata": {"name": role}, "rules": []})
    await onboarding.onboard(cluster, adopt=True)
    left = await onboarding.offboard_fully(cluster)
    assert f"Role deepintshield/{role}: not created by Pullkeeper; adopted fields keep their values" in left
    assert "labels" not in (await cluster.admin.call("GET", f"{roles}/{role}"))["metadata"]


async def test_objects_that_onboarding_never_reached_are_neither_changed_nor_reported(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    await create_namespace(cluster)
    await create_service_account(cluster, metadata={"annotations": {"note": "theirs"}})
    await cluster.admin.call("POST", CONFIGS, CONFIG)
    before = await list_content(cluster)
    cluster.part.faults.add(recordings.fault("webhook-denies", path="/serviceaccounts/", method="PATCH"))
    refused = await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    assert step(refused, "manifests").category == "admission_denied", describe(refused)
    assert await onboarding.offboard_fully(cluster) == [
        "Namespace deepintshield: kept, because it may hold other objects"
    ]
    assert await list_content(cluster) == before


@pytest.mark.parametrize(("answer", "refusals"), [("not-found", 0), ("unknown-field", 1)])
async def test_an_object_that_was_deleted_meanwhile_is_not_left_and_one_that_cannot_be_changed_is(
    onboarding: Onboarding, answer: str, refusals: int
) -> None:
    """Offboarding goes on."""
    cluster = await onboarding.cluster("aks-1")
    await create_namespace(cluster)
    await cluster.admin.call("POST", CONFIGS, CONFIG)
    await onboarding.onboard(cluster, adopt=True)
    cluster.part.faults.add(recordings.fault(answer, method="PATCH", path="/configmaps/"))
    left = await onboarding.offboard_fully(cluster)
    lines = [line for line in left if line.startswith("ConfigMap ")]
    assert ["the cluster refused (internal: " in line for line in lines] == [True] * refusals
    assert onboarding.identity() is None


async def test_another_pullkeeper_offboards_only_what_it_has_onboarded_itself(
    onboarding: Onboarding, azurite: Azurite, request: pytest.FixtureRequest
) -> None:
    """Another app with its own storage account and the same rights."""
    cluster, world = await onboarding.cluster("aks-1"), onboarding.world
    await onboarding.onboard(cluster)
    before = await list_content(cluster)
    own, world.storage = world.storage, azurite.account(f"{request.node.nodeid} of another")
    another, world.storage = world.build_services(), own
    with pytest.raises(NotInFleet):
        await another.onboarder.offboard(cluster.id, keep_workload=False)
    await another.close()
    assert await list_content(cluster) == before
    assert SECRET in before


async def test_a_name_that_looks_like_a_token_is_not_shown(onboarding: Onboarding) -> None:
    """A client chooses the name of its field manager freely."""
    cluster, name = await onboarding.cluster("aks-1"), "ya29.a0AfH6SMBsecretsecretsecretsecret"
    await create_namespace(cluster)
    await cluster.admin.create_secret("deepintshield", "ar-pull-secret", '{"auths":{}}', manager=name)
    await cluster.admin.call("POST", CONFIGS, CONFIG, manager=name)
    body = {"cluster": str(cluster.id), "hub": "main"}
    said = [
        await onboarding.run({**body, "dryRun": True}),
        await onboarding.run(body),
        await onboarding.onboard(cluster, adopt=True),
        await onboarding.offboard(cluster),
    ]
    assert [one.status for one in said] == ["Succeeded", "Failed", "Succeeded", "Succeeded"]
    assert "also written by" in said[3].to_json()
    assert [one for one in said if "ya29" in one.to_json()] == []


async def test_a_secret_whose_field_managers_have_no_names_is_kept(onboarding: Onboarding) -> None:
    """An API server takes such records from any client that may write the secret."""
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster)
    metadata = (await cluster.admin.read_secret("deepintshield", "ar-pull-secret"))["metadata"]
    seen = {"metadata": {**metadata, "managedFields": [{"manager": "", "operation": "Update"}]}}
    cluster.part.faults.add(Fault(path="/secrets/", method="PATCH", status=200, body=json.dumps(seen)))
    planned = await onboarding.onboard(cluster, dryRun=True)
    expected = "would stop at deepintshield/ar-pull-secret, which belongs to an unknown field manager"
    assert step(planned, "pull secret").detail == expected
    kept = "Secret deepintshield/ar-pull-secret and its references: also written by an unknown field manager"
    assert kept in await onboarding.offboard_fully(cluster)
    assert SECRET in await list_objects(cluster)


@pytest.mark.parametrize("ours", [False, True])
async def test_a_list_of_secrets_that_another_manager_has_written_since_is_kept_and_reported(
    onboarding: Onboarding, *, ours: bool
) -> None:
    """The secret is deleted, and its name is still in the list: pods that use it will fail. Not in an account of ours,
    which is deleted too.
    """
    cluster = await onboarding.cluster("aks-1")
    if not ours:
        await create_namespace(cluster)
        await create_service_account(cluster)
    await onboarding.onboard(cluster)
    names = {"imagePullSecrets": [{"name": "ar-pull-secret"}, {"name": "theirs"}]}
    path = "/api/v1/namespaces/deepintshield/serviceaccounts/deepintshield-sa"
    await cluster.admin.call("PATCH", path, names, content_type="application/merge-patch+json")
    left = await onboarding.offboard_fully(cluster)
    kept = "still names ar-pull-secret; another field manager wrote its list of secrets"
    assert (f"ServiceAccount deepintshield/deepintshield-sa: {kept}" in left) == (not ours)
    if not ours:
        assert (await get_service_account(cluster))["imagePullSecrets"] == names["imagePullSecrets"]
