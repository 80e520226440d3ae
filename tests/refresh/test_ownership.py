"""Whose secret it is, and what happened to it since we last wrote it."""

import json

import pytest

from tests.world import MINUTE, World

pytestmark = pytest.mark.servers
_NAMESPACE, _NAME = "deepintshield", "ar-pull-secret"
_THEIRS = json.dumps({"auths": {"registry.example": {"username": "u", "password": "p", "auth": "dTpw"}}})


async def test_a_humans_edit_is_taken_back_and_told_with_who_did_it(world: World) -> None:
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    uid = (await world.target(cluster)).uid
    await cluster.admin.edit_secret(_NAMESPACE, _NAME, _THEIRS)
    await world.refresh(cluster)
    assert uid == (await world.target(cluster)).uid
    assert (await world.read_token(cluster)).startswith("ya29.")
    [told] = world.events.named("drift.repaired")
    assert told["detail"] == "edited by kubectl-edit"
    assert told["category"] == "drift_repaired"


async def test_a_deleted_secret_is_made_anew_and_told(world: World) -> None:
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    await cluster.admin.delete_secret(_NAMESPACE, _NAME)
    await world.refresh(cluster)
    assert (await world.read_token(cluster)).startswith("ya29.")
    assert [told["detail"] for told in world.events.named("drift.repaired")] == ["it had been deleted"]


async def test_a_foreign_secret_is_left_byte_for_byte_as_it_was(world: World) -> None:
    cluster = await world.join("aks-1")
    await cluster.admin.create_secret(_NAMESPACE, _NAME, _THEIRS)
    before = await cluster.admin.read_secret(_NAMESPACE, _NAME)
    for reason in ("onboarding", "due", "manual"):
        assert await world.refresh_category(cluster, reason) == "secret_conflict"
    assert before == await cluster.admin.read_secret(_NAMESPACE, _NAME)
    target = await world.target(cluster)
    assert "kubectl-create" in str(target.detail)
    assert "kubectl get secret ar-pull-secret -n deepintshield" in str(target.remedy)
    assert target.state(world.clock()) == "pending"


async def test_a_foreign_secret_is_adopted_in_place_when_asked(world: World) -> None:
    """The older CronJob's secret: same UID, our content, and from then on ours without force."""
    cluster = await world.join("aks-1", adopt=True)
    uid = await cluster.admin.create_secret(_NAMESPACE, _NAME, _THEIRS)
    await world.refresh(cluster)
    assert uid == (await world.target(cluster)).uid
    assert [told["detail"] for told in world.events.named("drift.repaired")] == ["adopted from kubectl-create"]
    world.clock.advance(25 * MINUTE)
    calls = cluster.part.journal.count("PATCH", "/secrets/")
    await world.refresh(cluster)
    assert calls + 1 == cluster.part.journal.count("PATCH", "/secrets/")


async def test_a_secret_remade_by_somebody_else_is_theirs(world: World) -> None:
    """Deleted and created again by a person between two refreshes: that is no edit of ours any more."""
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
