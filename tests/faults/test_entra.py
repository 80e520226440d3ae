"""The app's own identity fails: the endpoint is overloaded, broken, gone, or refuses."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from local.azure.entra import EXCHANGE
from local.serving import Fault
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, body='{"statusCode":429,"message":"Too many requests"}', headers={"Retry-After": "1"}),
        Fault(status=500, body='{"statusCode":500,"message":"An unexpected error occured"}'),
        Fault(status=200, body="<html>"),
        Fault(status=200, body="[]"),
        Fault(status=200, body='{"access_token":"eyJ","expires_on":"soon","resource":"r"}'),
        Fault(status=200, body='{"access_token":"eyJ"}'),
        Fault(status=307, headers={"Location": "http://127.0.0.1:9/"}),
        Fault(drop=True),
    ],
    ids=["429", "500", "html", "list", "expiry", "bare", "redirect", "dropped"],
)
async def test_an_endpoint_that_gives_no_token_is_unavailable(world: World, fault: Fault) -> None:
    """The queue tries again."""
    clusters = [await world.join(f"aks-{n}") for n in range(4)]
    world.cloud.identity_part.faults.add(fault)
    categories = await asyncio.gather(*(world.refresh_category(cluster) for cluster in clusters))
    assert {"entra_unavailable"} == set(categories)
    world.cloud.identity_part.faults.clear()
    world.clock.advance(MINUTE)
    await world.refresh(clusters[0])


async def test_a_wrong_header_is_denied(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = await world.join("aks-1")
    assert world.services
    other = world.build_services()
    await other.close()
    monkeypatch.setattr(world.cloud.identity, "secret", "another")
    assert await world.refresh_category(cluster) == "entra_denied"
    assert world.cloud.identity_part.journal.count() == 1


async def test_an_identity_that_is_not_assigned_is_denied_at_once(world: World) -> None:
    clusters = [await world.join(f"aks-{n}") for n in range(4)]
    world.cloud.identity.unassign(world.cloud.app)
    categories = await asyncio.gather(*(world.refresh_category(cluster) for cluster in clusters))
    assert {"entra_denied"} == set(categories)
    assert world.cloud.identity_part.journal.count() == 1
    assert "az functionapp identity show" in str((await world.target(clusters[0])).remedy)


async def test_a_resource_that_the_tenant_does_not_know_has_its_own_remedy(world: World) -> None:
    """The hub's audience has no service principal here. The endpoint fails for it as in an outage."""
    hub = world.cloud.hubs["main"]
    world.cloud.hubs["main"] = replace(hub, document={**hub.document, "entraResource": "api://pull"})
    cluster = await world.join("aks-1")
    assert await world.refresh_category(cluster) == "entra_denied"
    target = await world.target(cluster)
    assert "An unexpected error occured while fetching the AAD Token." in str(target.detail)
    assert "az ad sp show --id api://pull" in str(target.remedy)
    assert "restart" not in str(target.remedy)


async def test_the_endpoint_is_asked_once_per_resource_however_many_clusters(world: World) -> None:
    """Concurrently, on a cold start: the endpoint throttles apps that ask for each call."""
    clusters = [await world.join(f"aks-{n}") for n in range(12)]
    await asyncio.gather(*(world.refresh(cluster) for cluster in clusters))
    assert world.cloud.identity_part.journal.count() == 2


async def test_a_cluster_with_local_accounts_needs_no_entra_token(world: World) -> None:
    cluster = await world.join("aks-1", local_accounts=True)
    await world.refresh(cluster)
    world.cloud.identity_part.faults.add(Fault(status=500))
    world.clock.advance(25 * MINUTE)
    await world.refresh(cluster)


async def test_a_cancelled_caller_leaves_the_response_to_the_others(world: World) -> None:
    entra = world.services.refresher._writer._federation._chain._entra
    world.cloud.identity_part.faults.add(Fault(delay=timedelta(seconds=0.2), slow_only=True))
    cancelled, waiting = (asyncio.create_task(entra.token(EXCHANGE)) for _ in range(2))
    while not world.cloud.identity_part.faults.have_fired:  # noqa: ASYNC110 - a stand-in has no event for it
        await asyncio.sleep(0.01)
    cancelled.cancel()
    assert (await waiting).reveal().startswith("eyJ")
    assert world.cloud.identity_part.journal.count() == 1
