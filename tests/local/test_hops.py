"""Each way to break a hop of the local cloud: what a refresh reports, and that the repair leaves no trace."""

import copy
from typing import Any, get_args

import pytest

from local.breaks import CannotBreak
from local.breaks.azure import managed
from local.cloud import GROUP, SUBSCRIPTION, LocalCluster
from local.hops import HOPS, break_hop, find_break
from pullkeeper.diagnosis.report import HopName
from tests.onboarding.conftest import Onboarding, list_content
from tests.world import World

pytestmark = pytest.mark.servers
WAYS = [(hop, variant) for hop, ways in HOPS.items() for variant in ways]
REPAIRED_BY_A_REFRESH = {("secret", "edited"), ("secret", "deleted")}


@pytest.fixture
def onboarding(world: World) -> Onboarding:
    """The app's own identity has no right but to refresh."""
    world.cloud.add_hub("two", registries=2)
    world.cloud.add_onboarder()
    world.settings["ONBOARDING_SCOPES"] = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    return Onboarding(world)


async def _describe(world: World, cluster: LocalCluster) -> list[Any]:
    """Return all that a break may change."""
    cloud, hub = world.cloud, world.cloud.hubs["main"]
    identities = filter(None, map(cloud.arm.identities.find, cloud.arm.identities.resource_ids()))
    return copy.deepcopy(
        [
            [cloud.arm.federated_credentials.find_all(identity) for identity in identities],
            [registry._repositories for registry in cloud.registries],
            managed(cloud, cluster).document(cloud.entra.tenant),
            (hub.provider.issuer, hub.provider.allowed_audiences, hub.provider.condition, hub.provider.disabled),
            await list_content(cluster),
            (await cluster.admin.call("GET", "/api/v1/pods"))["items"],
        ]
    )


@pytest.mark.parametrize(("hop", "variant"), WAYS)
async def test_a_break_shows_in_a_refresh_and_its_repair_leaves_no_trace(
    onboarding: Onboarding, hop: HopName, variant: str
) -> None:
    world = onboarding.world
    cluster = await onboarding.cluster("aks-1", hub="two" if variant == "second-registry" else "main")
    await onboarding.onboard(cluster, hub=str(cluster.member.cluster.hub))
    before, category = await _describe(world, cluster), find_break(hop, variant).category
    async with break_hop(world.cloud, cluster, hop, variant):
        await onboarding.restart()
        assert await world.refresh_category(cluster) == (category or "ok")
        repaired = bool(world.events.named("drift.repaired"))
        assert repaired == ((hop, variant) in REPAIRED_BY_A_REFRESH)
        assert category or repaired or await _describe(world, cluster) != before
    await onboarding.restart()
    assert await world.refresh_category(cluster) == "ok"
    assert await _describe(world, cluster) == before


def test_every_hop_can_be_broken() -> None:
    assert tuple(HOPS) == get_args(HopName)


@pytest.mark.parametrize("hop", ["authentication", "permission", "namespace"])
async def test_the_administrator_by_certificate_is_not_stopped(world: World, hop: HopName) -> None:
    cluster = await world.join("aks-1", local_accounts=True)
    with pytest.raises(CannotBreak, match="local accounts"):
        async with break_hop(world.cloud, cluster, hop):
            pass


async def test_what_is_not_there_cannot_be_broken(world: World) -> None:
    """This cluster has only what a refresh needs."""
    cluster = await world.join("aks-1")
    for hop in ("federated-credential", "service-account", "credential-config"):
        with pytest.raises(CannotBreak, match="aks-1"):
            async with break_hop(world.cloud, cluster, hop):
                pass
