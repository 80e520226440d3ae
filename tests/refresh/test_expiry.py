"""An expired secret always has a category and a remedy."""

import pytest

from local.cloud import LocalCluster
from pullkeeper.fleet.overview import TargetView
from pullkeeper.fleet.table import Member
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers


async def _view(world: World, cluster: LocalCluster) -> TargetView:
    [target] = (await world.services.overview.one(cluster.id)).targets
    return target


async def test_a_secret_that_expired_because_nothing_ran_is_explained(world: World) -> None:
    """No timer runs, so no refresh has failed."""
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    assert (await _view(world, cluster)).category is None
    world.clock.advance(61 * MINUTE)
    target = await _view(world, cluster)
    assert (target.state, target.category) == ("expired", "refresh_stopped")
    assert target.detail == f"no refresh since {target.issued_at}"
    assert "GET /api/status" in str(target.remedy)


async def test_the_first_run_after_a_stop_reports_the_shard_as_overdue(world: World) -> None:
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    world.clock.advance(61 * MINUTE)
    await world.services.scheduler.run()
    [event] = world.events.named("run.completed")
    assert (event["overdue"], event["fresh"]) == (1, 1)


async def test_an_in_cluster_refresher_that_has_stopped_is_named(world: World) -> None:
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    in_cluster = cluster.member.cluster.model_copy(update={"refresher": "in-cluster"})
    await world.services.fleet.register(Member(in_cluster, cluster.member.endpoint))
    world.clock.advance(61 * MINUTE)
    await world.refresh(cluster)
    event = world.events.named("fleet.status")[-1]
    assert (event["state"], event["category"]) == ("expired", "refresh_stopped")
    target = await _view(world, cluster)
    assert (target.state, target.category) == ("expired", "refresh_stopped")
    assert f"kubectl get cronjobs,jobs -n {cluster.target.namespace}" in str(target.remedy)
    line = await world.services.overview.one(cluster.id)
    assert (line.refresher, line.next_due) == ("in-cluster", await world.next_due(cluster))


async def test_a_refresh_that_failed_is_the_reason_that_is_given(world: World) -> None:
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    await cluster.server.stop()
    world.clock.advance(61 * MINUTE)
    await world.refresh_category(cluster)
    shown, known = await _view(world, cluster), await world.target(cluster)
    assert shown.category == "cluster_unreachable"
    assert shown.detail
    assert (shown.detail, shown.remedy) == (known.detail, known.remedy)
