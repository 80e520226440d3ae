"""Each way to break a hop of the local cloud: what a refresh reports, and that the repair leaves no trace."""

import copy
from collections.abc import AsyncIterator
from typing import Any, get_args

import pytest
import pytest_asyncio

from local.azure.entra import Entra
from local.azurite import Azurite
from local.breaks import CannotBreak
from local.breaks.azure import managed
from local.cloud import GROUP, SUBSCRIPTION, LocalCluster
from local.hops import HOPS, break_hop, find_break
from local.serving import Authority
from pullkeeper.diagnosis.report import HopName
from tests.onboarding.conftest import Onboarding, list_content
from tests.world import World, open_world

pytestmark = pytest.mark.servers
WAYS = [(hop, variant) for hop, ways in HOPS.items() for variant in ways]
REPAIRED_BY_A_REFRESH = {("secret", "edited"), ("secret", "deleted")}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def onboarded(azurite: Azurite, authority: Authority, entra: Entra) -> AsyncIterator[Onboarding]:
    """A cluster of each of two hubs, for all tests: what they break is repaired. The app's own identity has no right
    but to refresh.
    """
    with pytest.MonkeyPatch.context() as patch:
        async with open_world(azurite.account(__name__), authority, patch, entra) as world:
            world.cloud.add_hub("two", registries=2)
            world.cloud.add_onboarder()
            world.settings["ONBOARDING_SCOPES"] = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
            onboarding = Onboarding(world)
            for hub in ("main", "two"):
                await onboarding.onboard(await onboarding.cluster(f"aks-{hub}", hub), hub=hub)
            yield onboarding


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


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("hop", "variant"), WAYS)
async def test_a_break_shows_in_a_refresh_and_its_repair_leaves_no_trace(
    onboarded: Onboarding, hop: HopName, variant: str
) -> None:
    world = onboarded.world
    world.events.seen.clear()
    cluster = world.cloud.clusters["aks-two" if variant == "second-registry" else "aks-main"]
    before, category = await _describe(world, cluster), find_break(hop, variant).category
    async with break_hop(world.cloud, cluster, hop, variant):
        await onboarded.restart()
        assert await world.refresh_category(cluster) == (category or "ok")
        repaired = bool(world.events.named("drift.repaired"))
        assert repaired == ((hop, variant) in REPAIRED_BY_A_REFRESH)
        assert category or repaired or await _describe(world, cluster) != before
    await onboarded.restart()
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
