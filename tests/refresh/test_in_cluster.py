"""A cluster that refreshes itself is never written, and looked at if its owner allows it."""

from datetime import timedelta
from typing import Any, Final

import pytest

from local.cloud import LocalCluster
from pullkeeper.fleet.table import Member
from pullkeeper.model import Target
from pullkeeper.refresh.capacity import Capacity
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers


async def _register_in_cluster(world: World, cluster: LocalCluster) -> None:
    own = cluster.member.cluster.model_copy(update={"refresher": "in-cluster"})
    await world.services.fleet.register(Member(own, cluster.member.endpoint))


async def test_its_lifetime_is_read_without_writing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a place, as every call of a cluster: a silent one holds none of the others back."""
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    written = await world.target(cluster)
    await _register_in_cluster(world, cluster)
    before = await cluster.admin.read_secret("deepintshield", "ar-pull-secret")
    world.clock.advance(30 * MINUTE)
    place, places = Capacity.place, list[bool]()

    def noted(capacity: Capacity, *, suspect: bool, **options: Any) -> Any:
        places.append(suspect)
        return place(capacity, suspect=suspect, **options)

    monkeypatch.setattr(Capacity, "place", noted)
    await world.refresh(cluster)
    seen = await world.target(cluster)
    assert written.issued_at
    assert written.expires_at
    times = (written.issued_at.replace(microsecond=0), written.expires_at.replace(microsecond=0))
    assert (seen.uid, seen.issued_at, seen.expires_at) == (written.uid, *times)
    assert seen.state(world.clock()) == "fresh"
    assert before == await cluster.admin.read_secret("deepintshield", "ar-pull-secret")
    assert world.cloud.google.exchanges == 1
    assert places == [False]
    assert len(world.events.named("fleet.status")) == 2, "nothing else is emitted of it"
    assert timedelta() < await world.next_due(cluster) - world.clock() <= timedelta(minutes=20)


async def test_before_its_first_refresh_it_is_pending(world: World) -> None:
    cluster = await world.join("aks-1")
    await _register_in_cluster(world, cluster)
    await world.refresh(cluster)
    target = await world.target(cluster)
    assert (target.state(world.clock()), target.category) == ("pending", None)


async def test_without_a_role_its_state_is_unknown(world: World) -> None:
    cluster = await world.cloud.add_cluster("aks-1", "main", access=False)
    await _register_in_cluster(world, cluster)
    await world.refresh(cluster)
    target = await world.target(cluster)
    assert target.state(world.clock()) == "unknown"
    assert "cannot patch" in str(target.note)
    assert await world.next_due(cluster) > world.clock()
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


_ISSUED: Final = "2027-01-01T00:00:00"
_BEGINS: Final = f"{_ISSUED}+00:00"


@pytest.mark.parametrize(
    ("issued", "expires"),
    [
        (_BEGINS, "soon"),
        (_BEGINS, "2027-01-01T01:00:00"),
        (_ISSUED, "2027-01-01T01:00:00+00:00"),
        (_ISSUED, "2027-01-01T01:00:00"),
        (_BEGINS, _BEGINS),
        (_BEGINS, "2026-12-31T23:00:00+00:00"),
        (_BEGINS, "2027-01-01T12:00:01+00:00"),
    ],
    ids=["no time", "no zone at its end", "no zone at its beginning", "no zone", "no life", "less", "too long"],
)
async def test_invalid_annotations_make_it_pending(world: World, issued: str, expires: str) -> None:
    """The owner of one cluster writes them, and they stop no other cluster of its shard."""
    cluster = await world.join("aks-1")
    beside = await world.join(world.name_beside(cluster))
    await world.refresh(cluster)
    path = "/api/v1/namespaces/deepintshield/secrets/ar-pull-secret"
    times = {"pullkeeper.dev/issued-at": issued, "pullkeeper.dev/expires-at": expires}
    patch = {"metadata": {"annotations": times}}
    await cluster.admin.call("PATCH", path, patch, content_type="application/merge-patch+json")
    await _register_in_cluster(world, cluster)
    for _ in range(2):
        world.clock.advance(25 * MINUTE)
        await world.tick()
    assert (await world.target(cluster)).state(world.clock()) == "pending"
    assert (await world.target(beside)).state(world.clock()) == "fresh"
