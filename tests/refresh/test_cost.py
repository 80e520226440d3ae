"""The number of calls to each service."""

import asyncio
from datetime import timedelta

import pytest

from local.cloud import LocalCluster
from local.serving import Fault
from pullkeeper.fleet.queues import RefreshMessage
from pullkeeper.fleet.shard_table import Shards, ShardState
from pullkeeper.fleet.shards import shard_of
from pullkeeper.model import Target
from pullkeeper.refresh import record
from pullkeeper.refresh.capacity import Capacity
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers


def _calls(clusters: list[LocalCluster]) -> int:
    """Count the app's calls: the administrator's have another field manager."""
    return sum(
        1
        for cluster in clusters
        for seen in cluster.part.journal.requests
        if seen.query.get("fieldManager", "pullkeeper").startswith("pullkeeper") and seen.method != "DELETE"
    )


async def test_one_mint_serves_all_clusters_refreshed_at_once(world: World) -> None:
    clusters = [await world.join(f"aks-{n}") for n in range(12)]
    await asyncio.gather(*(world.refresh(cluster) for cluster in clusters))
    assert world.cloud.google.exchanges == 1
    assert world.cloud.google.impersonations == 1
    assert world.cloud.registry_parts[0].journal.count("GET", "/v2/token") == 1
    assert len({await world.read_token(cluster) for cluster in clusters}) == 1


async def test_steady_state_is_one_call_per_secret_and_none_to_azure(world: World) -> None:
    two = [Target(), Target(namespace="other", service_accounts=("app",))]
    clusters = [await world.join("aks-1"), await world.join("aks-2", targets=two)]
    await clusters[1].admin.call("POST", "/api/v1/namespaces/other/serviceaccounts", {"metadata": {"name": "app"}})
    for cluster in clusters:
        await world.refresh(cluster, "manual")
    before = _calls(clusters)
    for _ in range(4):
        world.clock.advance(25 * MINUTE)
        for cluster in clusters:
            await world.refresh(cluster, "due")
    assert _calls(clusters) - before == 4 * 3
    assert len(world.cloud.arm_part.journal.requests) == 0


async def test_a_run_writes_its_shard_once_while_its_clusters_are_in_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long ago the first has ended."""
    slow = await world.join("aks-1")
    await world.join(world.name_beside(slow))
    slow.part.faults.add(Fault(path="/secrets/", delay=timedelta(seconds=0.5), slow_only=True))
    world.services.refresher._capacity = Capacity(slow=0)  # so no call is late
    monkeypatch.setattr(record, "_PAUSE", 0.05)
    monkeypatch.setattr(record, "_WITHIN", 600.0)
    save, saved = Shards.save, list[int]()

    async def note(shards: Shards, state: ShardState) -> ShardState | None:
        saved.append(len(state.statuses))
        return await save(shards, state)

    monkeypatch.setattr(Shards, "save", note)
    await world.services.refresher.refresh(RefreshMessage(shard=shard_of(slow.id), reason="due"))
    assert saved == [2]


async def test_entra_is_asked_once_per_resource(world: World) -> None:
    """Google and the clusters; the process keeps one credential."""
    clusters = [await world.join(f"aks-{n}") for n in range(3)]
    for _ in range(3):
        for cluster in clusters:
            await world.refresh(cluster)
        world.clock.advance(25 * MINUTE)
    assert len(world.cloud.identity_part.journal.requests) == 2


async def test_hubs_with_the_same_content_share_a_mint(world: World) -> None:
    world.cloud.hubs["alias"] = world.cloud.hubs["main"]
    first, second = await world.join("aks-1", "main"), await world.join("aks-2", "alias")
    await world.refresh(first)
    await world.refresh(second)
    assert world.cloud.google.exchanges == 1


async def test_a_message_delivered_twice_changes_nothing(world: World) -> None:
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    before = await cluster.admin.read_secret("deepintshield", "ar-pull-secret")
    message = RefreshMessage(shard=shard_of(cluster.id), cluster=cluster.id, reason="manual")
    await asyncio.gather(*(world.services.refresher.refresh(message) for _ in range(2)))
    assert before == await cluster.admin.read_secret("deepintshield", "ar-pull-secret")
    assert world.events.named("drift.repaired") == []
