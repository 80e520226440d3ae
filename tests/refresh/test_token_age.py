"""The age of the token that is written."""

import json
from datetime import timedelta
from typing import Any

import pytest

from local.azure.entra import EXCHANGE
from local.kubernetes import recordings
from local.serving import Fault
from pullkeeper.model import Target
from pullkeeper.publisher.hub import Hub
from pullkeeper.refresh.attempt import Writer
from pullkeeper.refresh.outcomes import Attempt
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers


async def test_no_token_is_written_with_less_than_50_of_60_minutes(world: World) -> None:
    clusters = [await world.join(f"aks-{n}") for n in range(24)]
    for cluster in clusters:
        await world.refresh(cluster)
        status = await world.target(cluster)
        assert status.expires_at is not None
        # A second, because Google's times have no fractions.
        assert timedelta(minutes=50) - timedelta(seconds=1) <= status.expires_at - world.clock()
        world.clock.advance(2.5 * MINUTE)
    assert world.cloud.google.exchanges == 12


async def test_an_older_token_never_replaces_a_newer_one(world: World) -> None:
    """Two instances with a token each: the one with the older token mints again."""
    cluster, other = await world.join("aks-1"), await world.join("aks-2")
    behind = world.services
    await world.refresh(other)
    world.clock.advance(4 * MINUTE)  # the older one is still new enough to be written
    world._services = world.build_services()
    await world.refresh(cluster)
    newer = (await world.target(cluster)).issued_at
    ahead, world._services = world._services, behind
    await world.refresh(cluster)
    again = (await world.target(cluster)).issued_at
    assert newer is not None
    assert again is not None
    assert newer <= again
    assert world.cloud.google.exchanges == 3
    await ahead.close()


async def test_the_newest_token_of_a_cluster_counts(world: World) -> None:
    """One of its secrets has an older one, because its last refresh failed."""
    targets = [Target(namespace="team-a"), Target(namespace="team-b")]
    cluster, other = await world.join("aks-1", targets=targets), await world.join("aks-2")
    await world.refresh(cluster)
    world.clock.advance(10 * MINUTE)
    await world.refresh(other)
    world.clock.advance(4 * MINUTE)
    behind, world._services = world.services, world.build_services()
    with cluster.part.faults.inject(recordings.fault("forbidden", method="PATCH", path="/team-b/secrets/")):
        newer = (await world.refresh(cluster)).targets[str(targets[0])].issued_at
    ahead, world._services = world.services, behind
    again = (await world.refresh(cluster)).targets[str(targets[0])].issued_at
    assert newer
    assert again
    assert newer <= again
    await ahead.close()


async def test_a_held_token_serves_until_a_sixth_of_its_life_while_no_new_one_can_be_minted(world: World) -> None:
    clusters = [await world.join(f"aks-{n}") for n in range(3)]
    await world.refresh(clusters[0])
    world.cloud.google_part.faults.add(Fault(path="/v1/token", status=400, body="{}"))
    world.clock.advance(7 * MINUTE)
    assert [await world.refresh_category(cluster) for cluster in clusters[1:]] == ["ok", "ok"]
    world.clock.advance(4 * MINUTE)
    assert await world.refresh_category(clusters[0]) == "internal"


async def test_a_token_that_becomes_too_old_between_two_tries_is_not_written(world: World) -> None:
    """A sixth of its life is a second here: the first try fails after most of it, and the next would succeed."""
    world.cloud.add_hub("short", lifetime=6)
    cluster = await world.join("aks-1", "short")
    fault = Fault(path="/secrets/", method="PATCH", status=500, delay=timedelta(seconds=0.8), times=1)
    cluster.part.faults.add(fault)
    assert await world.refresh_category(cluster) == "cluster_unreachable"
    assert cluster.part.journal.count("PATCH", "/secrets/") == 1
    assert await world.refresh_category(cluster) == "ok"


async def test_a_token_that_becomes_too_old_before_the_first_try_is_not_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, write = await world.join("aks-1"), Writer.write

    async def begin_late(*args: Any, **named: Any) -> Attempt:
        world.clock.advance(10 * MINUTE + timedelta(seconds=1))
        return await write(*args, **named)

    monkeypatch.setattr(Writer, "write", begin_late)
    assert await world.refresh_category(cluster) == "cluster_unreachable"
    assert "too much of the token's life passed" in str((await world.target(cluster)).detail)


async def test_a_response_that_comes_after_a_sixth_of_the_tokens_life_is_no_success(world: World) -> None:
    world.cloud.add_hub("short", lifetime=6)
    cluster = await world.join("aks-1", "short")
    cluster.part.faults.add(Fault(path="/secrets/", method="PATCH", delay=timedelta(seconds=2), slow_only=True))
    assert await world.refresh_category(cluster) == "cluster_unreachable"


async def test_a_token_that_the_registry_refuses_is_not_written(world: World) -> None:
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    before = await cluster.admin.read_secret("deepintshield", "ar-pull-secret")
    hub = world.cloud.hubs["main"]
    world.cloud.registries[0].revoke("deepintshield-images/main", f"serviceAccount:{hub.service_account}")
    world.clock.advance(25 * MINUTE)
    assert await world.refresh_category(cluster) == "registry_denied"
    assert before == await cluster.admin.read_secret("deepintshield", "ar-pull-secret")
    assert (await world.target(cluster)).state(world.clock()) == "stale"


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(drop=True)], ids=["503", "dropped"])
async def test_a_registry_that_does_not_answer_is_a_warning_only(world: World, fault: Fault) -> None:
    cluster = await world.join("aks-1")
    world.cloud.registry_parts[0].faults.add(fault)
    await world.refresh(cluster)
    assert (await world.read_token(cluster)).startswith("ya29.")
    assert [event["category"] for event in world.events.named("token.minted")] == ["registry_unavailable"]


async def test_a_hub_without_impersonation_writes_the_federated_token(world: World) -> None:
    world.cloud.add_hub("direct", impersonate=False)
    cluster = await world.join("aks-1", "direct")
    await world.refresh(cluster)
    assert (await world.read_token(cluster)).startswith("ya29.d.")
    assert world.cloud.google.impersonations == 0


async def test_an_entra_token_that_google_calls_stale_is_replaced_once(world: World) -> None:
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    world.cloud.google_part.faults.add(
        Fault(
            path="/v1/token",
            status=400,
            body='{"error":"invalid_grant","error_description":"ID Token issued at 1 is stale to sign-in."}',
            times=1,
        )
    )
    world.clock.advance(25 * MINUTE)
    await world.refresh(cluster)
    asked = [seen for seen in world.cloud.identity_part.journal.requests if seen.query["resource"] == EXCHANGE]
    assert len(asked) == 2


async def test_hubs_of_one_provider_have_a_token_each(world: World) -> None:
    hub = world.services.settings.hubs["main"]
    document = json.loads(hub.to_json()) | {"tokenLifetime": 1800}
    another = Hub.parse(document, trusted_hosts=world.services.settings.trusted_hosts)
    lives = [(await world.services.federation.token(one)).life for one in (hub, another)]
    assert lives[1] <= 30 * MINUTE < lives[0]


async def test_a_hub_can_ask_for_a_longer_lifetime(world: World) -> None:
    hub = world.cloud.add_hub("long", lifetime=12 * 3600)
    cluster = await world.join("aks-1", "long")
    assert await world.refresh_category(cluster) == "lifetime_not_allowed"
    world.cloud.google._accounts[hub.service_account].long_lifetimes = True
    world.clock.advance(15 * MINUTE)
    await world.refresh(cluster)
    assert timedelta(0) < await world.next_due(cluster) - world.clock() <= timedelta(hours=4)
    assert (await world.status(cluster)).life > timedelta(hours=11)
