"""What is reported of targets that are well, and until when a note is shown."""

from itertools import pairwise

import pytest

from pullkeeper.model import Target
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers


async def test_targets_that_are_fresh_are_reported_once_an_hour(world: World) -> None:
    cluster = await world.join("aks-1")
    reported = []
    for minute in range(0, 180, 5):
        world.events.seen.clear()
        await world.tick()
        if any(event["cluster"] == str(cluster.id) for event in world.events.named("fleet.status")):
            reported.append(minute)
        world.clock.advance(5 * MINUTE)
    gaps = {later - earlier for earlier, later in pairwise(reported)}
    assert len(reported) >= 3
    assert gaps <= {60, 65, 70, 75, 80, 85}, reported


async def test_a_note_is_shown_until_it_no_longer_holds(world: World) -> None:
    """Refreshes that are due look at the service accounts again, as long as one was missing."""
    target = Target(service_accounts=("late",))
    cluster = await world.join("aks-1", targets=[target])
    for _ in range(3):
        await world.refresh(cluster, "due")
        assert (await world.target(cluster)).note == "no such service account yet: late"
        world.clock.advance(25 * MINUTE)
    path = f"/api/v1/namespaces/{target.namespace}/serviceaccounts"
    await cluster.admin.call("POST", path, {"metadata": {"name": "late"}})
    await world.refresh(cluster, "due")
    assert (await world.target(cluster)).note is None
    assert (await cluster.admin.call("GET", f"{path}/late"))["imagePullSecrets"] == [{"name": target.secret}]


async def test_a_refresh_by_hand_makes_sure_of_the_service_accounts(world: World) -> None:
    """One that was created again has no reference, and no other refresh looks."""
    target = Target(service_accounts=("app",))
    cluster = await world.join("aks-1", targets=[target])
    path = f"/api/v1/namespaces/{target.namespace}/serviceaccounts"
    await cluster.admin.call("POST", path, {"metadata": {"name": "app"}})
    await world.refresh(cluster, "due")
    await cluster.admin.call("DELETE", f"{path}/app")
    await cluster.admin.call("POST", path, {"metadata": {"name": "app"}})
    await world.refresh(cluster, "manual")
    assert (await cluster.admin.call("GET", f"{path}/app"))["imagePullSecrets"] == [{"name": target.secret}]
