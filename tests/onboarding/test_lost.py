"""Losses: a response of the table, the message that an operation waits for, the operation itself."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ServiceResponseError
from azure.data.tables.aio import TableClient, TableServiceClient
from azure.storage.queue import TextBase64DecodePolicy
from azure.storage.queue.aio import QueueClient

from local.cloud import GROUP, SUBSCRIPTION, LocalCluster
from local.serving import Fault
from pullkeeper.document import Document
from pullkeeper.errors import NotInFleet, OperationRunning, StorageUnavailable
from pullkeeper.fleet.queues import Queue
from pullkeeper.fleet.table import entity_keys
from pullkeeper.model import ClusterId
from pullkeeper.onboarding.documents import OnboardingMessage, Operation, OperationsQuery
from pullkeeper.onboarding.operations import ChangedByAnother
from pullkeeper.onboarding.phases import ONBOARD
from pullkeeper.services import Services
from tests.faults.gate import Gates, put_gates
from tests.onboarding.conftest import Onboarding, describe, federated, list_objects
from tests.onboarding.test_resume import Killed, kill_in
from tests.world import World

pytestmark = pytest.mark.servers
STALLED = timedelta(minutes=3, seconds=1)
POINTER = rb"PUT \S+/operations\(PartitionKey='(?!operation')"
OPERATION = rb"PUT \S+/operations\(PartitionKey='operation'"


async def messages(world: World) -> list[str]:
    """Take all messages off the queue, and return the ids of their operations."""
    async with QueueClient.from_connection_string(
        world.storage, "onboarding", message_decode_policy=TextBase64DecodePolicy()
    ) as queue:
        found = [message.content async for message in queue.receive_messages()]
        await queue.clear_messages()
    return [OnboardingMessage.parse(text).operation for text in found]


@pytest.fixture
async def lossy(onboarding: Onboarding) -> AsyncIterator[tuple[Services, Gates]]:
    """An instance of the app that reaches its storage through gates, which can drop responses."""
    world = onboarding.world
    direct = world.storage
    async with put_gates(direct) as (behind, gates):
        world.storage = behind
        services = world.build_services()
        world.storage = direct
        yield services, gates
        await services.close()


async def test_an_operation_begins_if_the_response_to_its_cluster_row_is_lost(
    onboarding: Onboarding, lossy: tuple[Services, Gates]
) -> None:
    """The SDK writes again, and finds its own first write."""
    cluster, (services, gates) = await onboarding.cluster("aks-1"), lossy
    await onboarding.onboard(cluster)
    for gate in gates.values():
        gate.drop_response_to(POINTER)
    begun = await services.onboarder.offboard(cluster.id, keep_workload=False)
    assert sum(gate.dropped for gate in gates.values()) == 1
    assert begun.status == "Queued"
    ended = await onboarding.process(begun.id)
    assert ended.status == "Succeeded", describe(ended)


async def test_a_step_whose_response_is_lost_is_not_taken_for_anothers(
    onboarding: Onboarding, lossy: tuple[Services, Gates]
) -> None:
    cluster, (services, gates) = await onboarding.cluster("aks-1"), lossy
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    for gate in gates.values():
        gate.drop_response_to(OPERATION)
    ended = await onboarding.deliver(begun.id, by=services)
    assert sum(gate.dropped for gate in gates.values()) == 1
    assert ended.status == "Succeeded", describe(ended)


async def refused(onboarding: Onboarding, cluster: LocalCluster) -> str:
    """Send a request that is refused, and return the id of the operation that is under way."""
    with pytest.raises(OperationRunning) as expected:
        await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    return str(expected.value.context["operation"]).removeprefix("/api/operations/")


async def test_a_message_that_was_never_sent_is_sent_by_the_next_call(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, world = await onboarding.cluster("aks-1"), onboarding.world

    async def die(_: Queue, message: Document, delay: timedelta) -> None:
        raise Killed(message, delay)

    with monkeypatch.context() as patch:
        patch.setattr(Queue, "put", die)
        with pytest.raises(Killed):
            await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    world.clock.advance(STALLED)
    first = await refused(onboarding, cluster)
    assert await messages(world) == [first]
    assert (await onboarding.read_stored(first)).tries == 0
    ended = await onboarding.process(first)
    assert ended.status == "Succeeded", describe(ended)


async def test_an_operation_whose_message_is_refused_has_failed_and_another_may_begin(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = await onboarding.cluster("aks-1")

    async def fail(_: Queue, message: Document, delay: timedelta) -> None:
        raise StorageUnavailable(f"{message} {delay}")

    with monkeypatch.context() as patch:
        patch.setattr(Queue, "put", fail)
        with pytest.raises(StorageUnavailable):
            await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    latest = await onboarding.world.services.runner._operations.latest(cluster.id)
    assert latest
    assert latest.status == "Failed"
    await onboarding.onboard(cluster)


async def _begin_without(onboarding: Onboarding, partition: str) -> None:
    """Begin an onboarding while storage takes nothing into this partition."""
    cluster, upsert = await onboarding.cluster("aks-1"), TableClient.upsert_entity

    async def refuse(self: TableClient, entity: dict[str, Any], **more: Any) -> Any:
        if entity["PartitionKey"] == partition:
            raise HttpResponseError("refused")
        return await upsert(self, entity, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TableClient, "upsert_entity", refuse)
        with pytest.raises(StorageUnavailable):
            await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})


async def test_an_operation_that_is_lost_leaves_the_index(onboarding: Onboarding) -> None:
    """Storage took nothing else of it. One that has begun this moment stays."""
    await _begin_without(onboarding, "operation")
    world = onboarding.world
    for passed, listed in ((timedelta(), 1), (STALLED, 0)):
        world.clock.advance(passed)
        await world.services.messages.resume_stalled()
        assert len(await world.services.runner._operations.list_running()) == listed


async def test_an_operation_that_storage_did_not_take_into_the_index_is_not_listed(onboarding: Onboarding) -> None:
    """No message would ever end it."""
    await _begin_without(onboarding, "running")
    assert (await onboarding.world.services.listing.page(OperationsQuery())).operations == ()


async def test_a_queued_operation_is_not_sent_again_too_early(onboarding: Onboarding) -> None:
    cluster, world = await onboarding.cluster("aks-1"), onboarding.world
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    world.clock.advance(STALLED - timedelta(seconds=9))
    assert await refused(onboarding, cluster) == begun.id
    assert await messages(world) == [begun.id]


async def test_a_running_operation_is_sent_again_once_its_process_must_have_ended(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, world = await onboarding.cluster("aks-1"), onboarding.world
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    with monkeypatch.context() as patch:
        kill_in(ONBOARD[3], "do", patch, done=False)
        with pytest.raises(Killed):
            await onboarding.deliver(begun.id)
    assert await messages(world) == [begun.id]
    world.clock.advance(STALLED - timedelta(seconds=9))
    assert await refused(onboarding, cluster) == begun.id
    assert await messages(world) == []
    world.clock.advance(timedelta(seconds=10))
    assert await refused(onboarding, cluster) == begun.id
    assert await messages(world) == [begun.id]
    sent = await onboarding.read_stored(begun.id)
    assert sent.operation.updated_at == sent.due, "it counts as lost a while after its last change"
    ended = await onboarding.process(begun.id)
    assert ended.status == "Succeeded", describe(ended)


async def test_an_operation_whose_row_is_removed_meanwhile_is_not_written_again(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    stored = await onboarding.read_stored((await onboarding.begin({"cluster": str(cluster.id)})).id)
    async with TableServiceClient.from_connection_string(onboarding.world.storage) as tables:
        await tables.get_table_client("operations").delete_entity("operation", stored.operation.id)
    with pytest.raises(ChangedByAnother):
        await onboarding.world.services.runner._operations.save(stored)


async def test_an_operation_whose_clusters_row_is_lost_ends(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    async with TableServiceClient.from_connection_string(onboarding.world.storage) as tables:
        await tables.get_table_client("operations").delete_entity(*entity_keys(cluster.id).values())
    assert (await onboarding.deliver(begun.id)).status == "Failed"
    assert onboarding.world.cloud.arm.writes == []


async def test_a_message_of_an_unknown_operation_is_refused(onboarding: Onboarding) -> None:
    """The table was emptied, or the message was written by hand."""
    runner, unknown = onboarding.world.services.runner, OnboardingMessage(operation="0" * 32)
    with pytest.raises(NotInFleet, match="there is no operation 000"):
        await runner.run(unknown)
    with pytest.raises(NotInFleet):
        await runner.give_up(unknown)


async def test_a_response_that_stays_lost_costs_a_try(onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write took effect, so the ETag has changed, and the row names this invocation as its writer."""
    cluster = await onboarding.cluster("aks-1")
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    update, writes = TableClient.update_entity, itertools.count()

    async def lost(self: TableClient, entity: dict[str, str], **more: Any) -> Any:
        written = await update(self, entity, **more)
        if entity["PartitionKey"] == "operation" and next(writes) == 3:
            raise ServiceResponseError("lost")
        return written

    monkeypatch.setattr(TableClient, "update_entity", lost)
    between = await onboarding.deliver(begun.id)
    assert [one.category for one in between.steps if one.category] == ["storage_unavailable"]
    ended = await onboarding.deliver(begun.id)
    assert ended.status == "Succeeded", describe(ended)


async def test_without_operations_an_offboarding_that_failed_half_way_can_be_sent_again(onboarding: Onboarding) -> None:
    """By then the fleet, which alone knew the cluster, has no entry any more."""
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster, targets=[{"namespace": "team-a", "serviceAccounts": federated("one")}])
    async with TableServiceClient.from_connection_string(onboarding.world.storage) as tables:
        table = tables.get_table_client("operations")
        for entity in [entity async for entity in table.list_entities()]:
            await table.delete_entity(entity)
    cluster.part.faults.add(Fault(path="selfsubjectaccessreviews", status=403, body="{}"))
    assert (await onboarding.offboard(cluster)).status == "Failed"
    cluster.part.faults.clear()
    await onboarding.offboard_fully(cluster)
    assert [path for path in await list_objects(cluster) if "/team-a/" in path] == []
    assert onboarding.identity() is None


async def test_each_call_to_the_table_that_fails_is_reported_as_its_category(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that begin, list, resume, end and remove operations: the first fails, then the second, and so on."""
    services, passing, numbers = onboarding.world.services, 0, itertools.count()

    def count(call: Callable[..., Any]) -> Callable[..., Any]:
        def pass_or_fail(*passed: Any, **named: Any) -> Any:
            nonlocal passing
            passing -= 1
            if passing < 0:
                raise HttpResponseError("refused")
            return call(*passed, **named)

        return pass_or_fail

    async def run(work: Callable[[], Awaitable[Any]], calls: int = 0) -> Any:
        """Run it until all its calls pass. Each run before that must raise StorageUnavailable."""
        nonlocal passing
        passing = calls
        try:
            return await work()
        except StorageUnavailable:
            return await run(work, calls + 1)

    def begin(**wanted: Any) -> Awaitable[Operation]:
        cluster = ClusterId(SUBSCRIPTION, GROUP, f"aks-{next(numbers)}")
        return onboarding.begin({"cluster": str(cluster), **wanted})

    for name in ("create_entity", "delete_entity", "get_entity", "query_entities", "update_entity", "upsert_entity"):
        monkeypatch.setattr(TableClient, name, count(getattr(TableClient, name)))
    for wanted in ({"dryRun": True}, {}):
        begun = await run(partial(begin, **wanted))
        await run(services.messages.resume_stalled)
        await run(partial(services.listing.page, OperationsQuery()))
        await run(partial(services.runner.give_up, OnboardingMessage(operation=begun.id)))
        onboarding.world.clock.advance(timedelta(days=91))
        await run(services.retention.remove_expired)
