"""A secret that another field manager has changed, deleted or created."""

import json

import pytest

from local.serving import Fault
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers
_NAMESPACE, _NAME = "deepintshield", "ar-pull-secret"
_MERGE = "application/merge-patch+json"
_THEIRS = json.dumps({"auths": {"registry.example": {"username": "u", "password": "p", "auth": "dTpw"}}})


async def test_an_edit_is_taken_back_and_reported_with_its_manager(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    uid = (await world.target(cluster)).uid
    await cluster.admin.edit_secret(_NAMESPACE, _NAME, _THEIRS)
    await world.refresh(cluster)
    assert uid == (await world.target(cluster)).uid
    assert (await world.read_token(cluster)).startswith("ya29.")
    [event] = world.events.named("drift.repaired")
    assert event["detail"] == "edited by kubectl-edit"
    assert (event["category"], event["uid"]) == ("drift_repaired", uid)
    assert [record.levelname for record in caplog.records if "drift.repaired" in record.message] == ["WARNING"]


async def test_a_deleted_secret_is_created_again_and_reported(world: World) -> None:
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    await cluster.admin.delete_secret(_NAMESPACE, _NAME)
    await world.refresh(cluster)
    assert (await world.read_token(cluster)).startswith("ya29.")
    assert [event["detail"] for event in world.events.named("drift.repaired")] == ["it had been deleted"]


async def test_a_secret_without_field_managers_is_ours_by_its_uid(world: World) -> None:
    """Another client has cleared `managedFields`, and edited it."""
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    uid = (await world.target(cluster)).uid
    path = f"/api/v1/namespaces/{_NAMESPACE}/secrets/{_NAME}"
    await cluster.admin.call("PATCH", path, {"metadata": {"managedFields": []}}, content_type=_MERGE)
    await cluster.admin.edit_secret(_NAMESPACE, _NAME, _THEIRS)
    assert await world.refresh_category(cluster) == "ok"
    assert uid == (await world.target(cluster)).uid
    assert (await world.read_token(cluster)).startswith("ya29.")


async def test_a_secret_whose_status_was_lost_is_ours_by_its_field_manager(world: World) -> None:
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    await world.services.shards.forget(cluster.id)
    await cluster.admin.edit_secret(_NAMESPACE, _NAME, _THEIRS)
    assert await world.refresh_category(cluster) == "ok"
    assert (await world.read_token(cluster)).startswith("ya29.")
    assert [event["detail"] for event in world.events.named("drift.repaired")] == ["edited by kubectl-edit"]


async def test_a_secret_that_was_created_again_under_our_field_manager_is_reported(world: World) -> None:
    """By a refresher in the cluster, say. Nothing conflicts; only the UID is another."""
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    secret = await cluster.admin.read_secret(_NAMESPACE, _NAME)
    secret["metadata"] = {name: secret["metadata"][name] for name in ("name", "namespace", "labels")}
    await cluster.admin.delete_secret(_NAMESPACE, _NAME)
    await cluster.admin.apply(secret, manager="pullkeeper")
    await world.refresh(cluster)
    details = [event["detail"] for event in world.events.named("drift.repaired")]
    assert details == ["it had been deleted and created again"]


async def test_a_foreign_secret_is_left_unchanged(world: World) -> None:
    cluster = await world.join("aks-1")
    await cluster.admin.create_secret(_NAMESPACE, _NAME, _THEIRS)
    before = await cluster.admin.read_secret(_NAMESPACE, _NAME)
    for reason in ("due", "retry", "manual"):
        assert await world.refresh_category(cluster, reason) == "secret_conflict"
    assert before == await cluster.admin.read_secret(_NAMESPACE, _NAME)
    target = await world.target(cluster)
    assert "kubectl-create" in str(target.detail)
    assert "kubectl get secret ar-pull-secret -n deepintshield" in str(target.remedy)
    assert target.state(world.clock()) == "pending"


async def test_a_foreign_secret_that_a_policy_does_not_show_is_a_conflict(world: World) -> None:
    """That of a cluster role refuses the look. The remedy is about the secret's owner, not about the policy."""
    cluster = await world.join("aks-1")
    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl-create"'}
    conflict = json.dumps({"message": "conflict", "details": {"causes": [cause]}})
    cluster.part.faults.add(Fault(path="/secrets/", method="PATCH", status=409, body=conflict, times=1))
    denied = json.dumps({"message": "ValidatingAdmissionPolicy 'pullkeeper-refresher' denied request: writes its own"})
    cluster.part.faults.add(Fault(path="/secrets/", method="PATCH", status=422, body=denied))
    assert await world.refresh_category(cluster) == "secret_conflict"


async def test_a_foreign_secret_that_is_gone_by_the_time_of_the_look_is_no_conflict(world: World) -> None:
    cluster = await world.join("aks-1")
    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl-create"'}
    conflict = json.dumps({"message": "conflict", "details": {"causes": [cause]}})
    cluster.part.faults.add(Fault(path="/secrets/", method="PATCH", status=409, body=conflict, times=1))
    assert await world.refresh_category(cluster) == "ok"
    assert (await world.read_token(cluster)).startswith("ya29.")


async def test_a_foreign_secret_is_adopted_in_place_when_asked(world: World) -> None:
    """As the guide's CronJob leaves one: it keeps its UID, and from then on it is written without force."""
    cluster = await world.join("aks-1", adopt=True)
    uid = await cluster.admin.create_secret(_NAMESPACE, _NAME, _THEIRS)
    await world.refresh(cluster)
    assert uid == (await world.target(cluster)).uid
    assert [event["detail"] for event in world.events.named("drift.repaired")] == ["adopted from kubectl-create"]
    world.clock.advance(25 * MINUTE)
    calls = cluster.part.journal.count("PATCH", "/secrets/")
    await world.refresh(cluster)
    assert calls + 1 == cluster.part.journal.count("PATCH", "/secrets/")


async def test_a_secret_that_another_manager_created_again_is_foreign(world: World) -> None:
    """Deleted and created again between two refreshes: its UID is not the one that was written."""
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    await cluster.admin.delete_secret(_NAMESPACE, _NAME)
    await cluster.admin.create_secret(_NAMESPACE, _NAME, _THEIRS)
    before = await cluster.admin.read_secret(_NAMESPACE, _NAME)
    assert await world.refresh_category(cluster) == "secret_conflict"
    assert before == await cluster.admin.read_secret(_NAMESPACE, _NAME)


@pytest.mark.parametrize("adopt", [False, True])
async def test_a_secret_of_another_type_is_never_deleted(world: World, *, adopt: bool) -> None:
    cluster = await world.join("aks-1", adopt=adopt)
    path = f"/api/v1/namespaces/{_NAMESPACE}/secrets"
    opaque = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": _NAME},
        "type": "Opaque",
        "data": {"a": "Yg=="},
    }
    made = await cluster.admin.call("POST", path, opaque, manager="kubectl-create")
    assert ("secret_immutable" if adopt else "secret_conflict") == await world.refresh_category(cluster)
    assert made == await cluster.admin.read_secret(_NAMESPACE, _NAME)
