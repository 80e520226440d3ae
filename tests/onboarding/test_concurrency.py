"""Concurrency: a message delivered twice, other clusters of the identity, another instance of the app."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from local.cloud import GROUP, SUBSCRIPTION
from pullkeeper.azure.identities import AzureIdentities, FederatedCredential, ManagedIdentity
from pullkeeper.cluster import pull_secret
from pullkeeper.fleet.queues import RefreshMessage
from pullkeeper.fleet.shards import shard_of
from pullkeeper.fleet.table import Fleet, Member
from pullkeeper.onboarding.documents import OnboardingMessage
from pullkeeper.onboarding.operations import Operations
from pullkeeper.onboarding.phases import pull_secret as pull_secret_phase
from pullkeeper.onboarding.rows import StoredOperation
from pullkeeper.onboarding.work import Work
from tests.onboarding.conftest import (
    SUBJECT,
    Onboarding,
    describe,
    get_service_account,
    identity_id,
    step,
)

pytestmark = pytest.mark.servers


def run_after_listing(monkeypatch: pytest.MonkeyPatch, then: Callable[[], Awaitable[None]], times: int = 1) -> None:
    """Run `then` between the look at an identity's credentials and the first write to it, in the first tries."""
    list_credentials, left = AzureIdentities.list_credentials, [then] * times

    async def listed(self: AzureIdentities, identity: ManagedIdentity) -> list[FederatedCredential]:
        found = await list_credentials(self, identity)
        if left:
            await left.pop()()
        return found

    monkeypatch.setattr(AzureIdentities, "list_credentials", listed)


async def test_of_two_invocations_with_one_message_one_continues(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have read the operation before either writes it."""
    cluster, both, read = await onboarding.cluster("aks-1"), asyncio.Barrier(2), Operations.read_cluster

    waiting = [both.wait] * 2

    async def waits(self: Operations, stored: StoredOperation) -> Any:
        if waiting:
            await waiting.pop()()
        return await read(self, stored)

    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    another = onboarding.world.build_services()
    with monkeypatch.context() as patch:
        patch.setattr(Operations, "read_cluster", waits)
        runners = onboarding.world.services.runner, another.runner
        await asyncio.gather(*(runner.run(OnboardingMessage(operation=begun.id)) for runner in runners))
    await another.close()
    ended = await onboarding.world.services.onboarder.get_operation(begun.id)
    assert ended.status == "Succeeded", describe(ended)
    assert len(onboarding.world.events.named("operation.completed")) == 1


@pytest.mark.parametrize("dry_run", [False, True, None])
async def test_an_invocation_taken_for_dead_does_not_bring_a_cluster_back_that_has_left(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch, *, dry_run: bool | None
) -> None:
    """After a dry run, or if it is not offboarded, it has not left."""
    cluster = await onboarding.cluster("aks-1")
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    reached, go = asyncio.Event(), asyncio.Event()

    async def held_up() -> None:
        reached.set()
        await go.wait()

    run_after_listing(monkeypatch, held_up)
    double = asyncio.create_task(onboarding.deliver(begun.id))
    await reached.wait()
    another = onboarding.world.build_services()
    ended = await onboarding.process(begun.id, by=another)
    assert ended.status == "Succeeded", describe(ended)
    await another.close()
    if dry_run is not None:
        await onboarding.offboard(cluster, dry_run=dry_run)
    go.set()
    assert await double == ended
    assert await onboarding.fleet() == (set() if dry_run is False else {str(cluster.id)})


async def test_of_two_clusters_that_race_for_the_last_credential_one_is_told_of_the_limit(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have seen the last place free."""
    clusters = [await onboarding.cluster(name) for name in ("aks-1", "aks-2")]
    onboarding.fill_identity(19, "shop-pull", pullkeeper="shared")
    onboarding.world.cloud.arm.federated_credentials.writing = (
        timedelta()
    )  # so that no write is refused, which would make the app look again
    both = asyncio.Barrier(2)

    async def waits() -> None:
        await both.wait()

    run_after_listing(monkeypatch, waits, times=2)
    bodies = [{"cluster": str(cluster.id), "hub": "main", "identity": "shop-pull"} for cluster in clusters]
    ended = await asyncio.gather(*(onboarding.run(body) for body in bodies))
    categories = {one.status: step(one, "federated credential").category for one in ended}
    assert categories == {"Succeeded": None, "Failed": "identity_limit"}
    assert len(onboarding.credentials("shop-pull")) == 20


@pytest.mark.parametrize("when", ["chosen", "about to join the fleet", "about to join, and only its trust is gone"])
async def test_an_identity_deleted_by_another_clusters_offboarding_is_created_again(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """They share it, and it was still unused when the other cluster was offboarded."""
    cluster = await onboarding.cluster("aks-1")

    async def remove_identity() -> None:
        arm, identity = onboarding.world.cloud.arm, onboarding.identity("shop-pull")
        if "only its trust" in when:
            assert identity is not None
            for name in onboarding.credentials("shop-pull"):
                assert arm.federated_credentials.remove(identity, name)
        else:
            assert arm.identities.remove(identity_id("shop-pull"))

    if when == "chosen":
        run_after_listing(monkeypatch, remove_identity)
    else:
        write, left = pull_secret_phase.do, [remove_identity]

        async def write_and_run(work: Work) -> str:
            done = await write(work)
            if left:
                await left.pop()()
            return done

        monkeypatch.setattr(pull_secret_phase, "do", write_and_run)
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main", "identity": "shop-pull"})
    between = await onboarding.deliver(begun.id)
    [remedy] = [one.remedy for one in between.steps if one.category == "federated_credential_conflict"]
    at = f"--subscription {SUBSCRIPTION} --resource-group {GROUP} --identity-name shop-pull"
    assert f"az identity federated-credential list {at}" in str(remedy)
    ended = await onboarding.process(begun.id)
    assert ended.status == "Succeeded", describe(ended)
    identity = onboarding.identity("shop-pull")
    assert identity is not None
    assert list(onboarding.credentials("shop-pull").values()) == [(onboarding.azure(cluster).oidc_issuer, SUBJECT)]
    annotations = (await get_service_account(cluster))["metadata"]["annotations"]
    assert annotations == {"azure.workload.identity/client-id": identity.service_principal.client_id}


async def test_a_token_is_never_older_than_what_another_instance_wrote(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This instance still has a token in memory that is fresh enough."""
    cluster, world = await onboarding.cluster("aks-1"), onboarding.world
    await onboarding.onboard(cluster)
    world.clock.advance(timedelta(minutes=8))
    another = world.build_services()
    await another.refresher.refresh(RefreshMessage(shard=shard_of(cluster.id), cluster=cluster.id, reason="manual"))
    await another.close()
    secret = await cluster.admin.read_secret("deepintshield", "ar-pull-secret")
    newer = datetime.fromisoformat(secret["metadata"]["annotations"]["pullkeeper.dev/issued-at"])
    issued, write = [], pull_secret.write

    async def noted(api: Any, target: Any, hub: Any, token: Any, **named: Any) -> pull_secret.WriteResult:
        issued.append(token.issued_at)
        return await write(api, target, hub, token, **named)

    monkeypatch.setattr(pull_secret, "write", noted)
    await onboarding.onboard(cluster)
    assert issued
    assert min(issued) >= newer


async def test_an_operation_given_up_while_it_registers_leaves_nothing_in_the_fleet(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, runner = await onboarding.cluster("aks-1"), onboarding.world.services.runner
    reached, go, put = asyncio.Event(), asyncio.Event(), Fleet.put

    async def slow(self: Fleet, member: Member) -> None:
        reached.set()
        await go.wait()
        await put(self, member)

    monkeypatch.setattr(Fleet, "put", slow)
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    working = asyncio.create_task(onboarding.deliver(begun.id))
    await reached.wait()
    await runner.give_up(OnboardingMessage(operation=begun.id, turn=1))
    await onboarding.offboard_fully(cluster)
    go.set()
    assert (await working).status == "Failed"
    assert await onboarding.fleet() == set()


async def test_giving_up_does_not_disturb_an_invocation_that_works_on_it(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, runner = await onboarding.cluster("aks-1"), onboarding.world.services.runner
    begun, load = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"}), Operations.load
    message = OnboardingMessage(operation=begun.id)

    async def late(self: Operations, operation: str) -> StoredOperation:
        found = await load(self, operation)
        monkeypatch.setattr(Operations, "load", load)
        await runner.run(message)
        return found

    monkeypatch.setattr(Operations, "load", late)
    await runner.give_up(message)
    ended = await onboarding.world.services.onboarder.get_operation(begun.id)
    assert ended.status == "Succeeded", describe(ended)
