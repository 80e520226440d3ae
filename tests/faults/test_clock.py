"""The clock of the app's machine differs from that of Google and Entra."""

import re
from copy import copy
from datetime import timedelta

import pytest

from local.cloud import LocalCluster
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers
HOUR = timedelta(hours=1)


async def _refresh(world: World, ahead: timedelta) -> LocalCluster:
    """Refresh a cluster with an app whose clock differs from all others."""
    world.clock = copy(world.cloud.clock)
    world.clock.advance(ahead)
    cluster = await world.join("aks-1")
    assert await world.refresh_category(cluster) == "ok"
    return cluster


@pytest.mark.parametrize(
    ("ahead", "side"),
    [(2 * MINUTE, "ahead of"), (-2 * MINUTE, "behind"), (3 * HOUR, "ahead of"), (-3 * HOUR, "behind")],
    ids=str,
)
async def test_a_clock_that_differs_is_reported_and_shortens_no_life(world: World, ahead: timedelta, side: str) -> None:
    """And lengthens none. The seconds may be one more or less: a date has no fractions."""
    cluster = await _refresh(world, ahead)
    [event] = world.events.named("clock.skewed")
    assert event["category"] == "clock_skew"
    seconds = re.fullmatch(rf"the clock of this machine is (\d+) s {side} Google's", event["detail"])
    assert seconds is not None
    assert abs(int(seconds[1]) - abs(ahead.total_seconds())) <= 2
    assert event["remedy"].startswith("Restart the app")

    issued = world.cloud.google.lookup(await world.read_token(cluster))
    assert issued is not None
    status = await world.target(cluster)
    assert status.expires_at is not None
    left_here, left_there = status.expires_at - world.clock(), issued.expires_at - world.cloud.clock()
    assert left_there > 59 * MINUTE
    assert abs(left_here - left_there) < timedelta(seconds=3)


@pytest.mark.parametrize("ahead", [timedelta(), 55 * MINUTE / 60, -55 * MINUTE / 60], ids=str)
async def test_a_small_difference_is_not_reported(world: World, ahead: timedelta) -> None:
    await _refresh(world, ahead)
    assert world.events.named("clock.skewed") == []


async def test_an_instance_whose_clock_is_behind_mints_once_for_all_clusters(world: World) -> None:
    """Though all secrets seem to be from the future."""
    clusters = [await _refresh(world, 3 * MINUTE), await world.join("aks-2"), await world.join("aks-3")]
    for cluster in clusters[1:]:
        await world.refresh(cluster)
    first, world._services = world.services, None
    world.clock = copy(world.cloud.clock)
    for cluster in clusters:
        assert await world.refresh_category(cluster, "due") == "ok"
    assert world.cloud.google.exchanges == 2
    await first.close()


async def test_a_mint_for_another_cluster_costs_no_further_one(world: World) -> None:
    """The clock of the instance that wrote last is 20 minutes ahead."""
    federation, hub = world.services.federation, world.services.settings.hubs["main"]
    ahead = world.clock() + 20 * MINUTE
    await federation.token(hub, issued_since=ahead)
    world.clock.advance(6 * MINUTE)
    await federation.token(hub)
    await federation.token(hub, issued_since=ahead)
    assert world.cloud.google.exchanges == 2
