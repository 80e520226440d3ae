"""A refresh that is under way while its cluster is offboarded does not bring the secret back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from local.cloud import LocalCluster
from pullkeeper.cluster import pull_secret
from pullkeeper.fleet.queues import RefreshMessage
from pullkeeper.fleet.shards import shard_of
from pullkeeper.onboarding.phases import pull_secret as pull_secret_phase
from pullkeeper.onboarding.work import Work
from pullkeeper.publisher.federation import Federation
from pullkeeper.publisher.hub import Hub
from pullkeeper.tokens import Token
from tests.onboarding.conftest import (
    SECRET,
    Onboarding,
    create_namespace,
    create_service_account,
    get_service_account,
    list_objects,
)

pytestmark = pytest.mark.servers


@asynccontextmanager
async def in_flight(
    onboarding: Onboarding, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[asyncio.Task[None]]:
    """Start a refresh that has its token, and writes it when the secrets have been deleted for the first time."""
    reached, go = asyncio.Event(), asyncio.Event()
    write, undo = pull_secret.write, pull_secret_phase.undo

    async def wait_and_write(*passed: Any, **named: Any) -> pull_secret.WriteResult:
        reached.set()
        await go.wait()
        return await write(*passed, **named)

    async def undo_and_wait(work: Work) -> str:
        done = await undo(work)
        go.set()
        await asyncio.wait([flight])
        return done

    monkeypatch.setattr(pull_secret, "write", wait_and_write)
    monkeypatch.setattr(pull_secret_phase, "undo", undo_and_wait)
    message = RefreshMessage(shard=shard_of(cluster.id), cluster=cluster.id, reason="manual")
    flight = asyncio.create_task(onboarding.world.services.refresher.refresh(message))
    await reached.wait()
    yield flight


async def test_a_refresh_under_way_loses_its_right_to_write(
    two_identities: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its role is removed before the secret."""
    cluster = await two_identities.cluster("aks-1")
    await create_namespace(cluster)
    await create_service_account(cluster)
    await two_identities.onboard(cluster)
    async with in_flight(two_identities, cluster, monkeypatch) as flight:
        await two_identities.offboard_fully(cluster)
    await flight
    failed = two_identities.world.events.named("secret.refresh_failed")
    assert [event["category"] for event in failed] == ["cluster_rbac_denied"]
    assert SECRET not in await list_objects(cluster)
    assert not (await get_service_account(cluster)).get("imagePullSecrets")


async def test_a_secret_written_during_offboarding_is_removed(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one identity for both, no missing role stops the refresh."""
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster)
    async with in_flight(onboarding, cluster, monkeypatch) as flight:
        await onboarding.offboard_fully(cluster)
    await flight
    assert onboarding.world.events.named("secret.refresh_failed") == []
    assert SECRET not in await list_objects(cluster)


async def test_a_cluster_that_left_while_its_token_was_minted_gets_nothing(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, mint = await onboarding.cluster("aks-1"), Federation.token
    await onboarding.onboard(cluster)

    async def slow(self: Federation, hub: Hub, **named: Any) -> Token:
        await onboarding.offboard_fully(cluster)
        onboarding.world.clock.advance(timedelta(seconds=6))
        return await mint(self, hub, **named)

    monkeypatch.setattr(Federation, "token", slow)
    await onboarding.world.refresh(cluster)
    assert SECRET not in await list_objects(cluster)
