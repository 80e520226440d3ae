"""A cluster that refreshes itself is never written, and looked at if its owner allows it."""

from datetime import timedelta

import pytest

from local.cloud import LocalCluster
from pullkeeper.fleet.table import Member
from pullkeeper.model import Target
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers


async def _register_in_cluster(world: World, cluster: LocalCluster) -> None:
    own = cluster.member.cluster.model_copy(update={"refresher": "in-cluster"})
    await world.services.fleet.register(Member(own, cluster.member.endpoint))


async def test_its_lifetime_is_read_without_writing(world: World) -> None:
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    written = await world.target(cluster)
    await _register_in_cluster(world, cluster)
    before = await cluster.admin.read_secret("deepintshield", "ar-pull-secret")
    world.clock.advance(30 * MINUTE)
    await world.refresh(cluster)
    seen = await world.target(cluster)
    assert seen.state(world.clock()) == "fresh"
    assert written.expires_at is not None
    assert seen.expires_at == written.expires_at.replace(microsecond=0)
    assert before == await cluster.admin.read_secret("deepintshield", "ar-pull-secret")
    assert world.cloud.google.exchanges == 1
    assert len(world.events.named("fleet.status")) == 2, "nothing else is emitted of it"
    assert await world.next_due(cluster) - world.clock() <= timedelta(minutes=20)


async def test_without_a_role_its_state_is_unknown(world: World) -> None:
    cluster = await world.cloud.add_cluster("aks-1", "main", access=False)
    await _register_in_cluster(world, cluster)
    await world.refresh(cluster)
    target = await world.target(cluster)
    assert target.state(world.clock()) == "unknown"
    assert "cannot patch" in str(target.note)
    assert world.events.named("secret.refresh_failed") == []
    assert world.cloud.google.exchanges == 0


async def test_without_a_role_in_one_namespace_the_others_are_looked_at(world: World) -> None:
    targets = (Target(namespace="a"), Target(namespace="b"))
    cluster = await world.join("aks-1", targets=targets)
    await world.refresh(cluster)
    await _register_in_cluster(world, cluster)
    binding = "/apis/rbac.authorization.k8s.io/v1/namespaces/a/rolebindings/pullkeeper-refresher"
    await cluster.admin.call("DELETE", binding)
    status = await world.refresh(cluster)
    assert [status.of(target).state(world.clock()) for target in targets] == ["unknown", "fresh"]


@pytest.mark.parametrize("expiry", ["soon", "2027-01-01T00:00:00"])
async def test_invalid_annotations_make_it_pending(world: World, expiry: str) -> None:
    """A time without a zone is one of them."""
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    path = "/api/v1/namespaces/deepintshield/secrets/ar-pull-secret"
    patch = {"metadata": {"annotations": {"pullkeeper.dev/expires-at": expiry}}}
    await cluster.admin.call("PATCH", path, patch, content_type="application/merge-patch+json")
    await _register_in_cluster(world, cluster)
    await world.refresh(cluster)
    assert (await world.target(cluster)).state(world.clock()) == "pending"
