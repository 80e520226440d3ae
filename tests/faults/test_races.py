"""Two instances of the app write the same row at the same moment: both have read it before either writes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from azure.data.tables.aio import TableClient

from local.cloud import GROUP, SUBSCRIPTION
from pullkeeper.errors import OperationRunning
from pullkeeper.fleet.shard_table import ShardState
from pullkeeper.fleet.shards import shard_of
from pullkeeper.fleet.table import entity_keys
from pullkeeper.onboarding.documents import Onboarding, Operation
from pullkeeper.onboarding.operations import ChangedByAnother
from pullkeeper.services import Services
from tests.world import World

pytestmark = pytest.mark.servers
Keys = dict[str, str]
Meet = Callable[[Keys], None]


@pytest_asyncio.fixture
async def other(world: World) -> AsyncIterator[Services]:
    """Another instance of the app."""
    world.settings["ONBOARDING_SCOPES"] = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    services = world.build_services()
    yield services
    await services.close()


@pytest.fixture
def meet(monkeypatch: pytest.MonkeyPatch) -> Meet:
    """Have the next two writes of a row wait for each other."""

    def arrange(keys: Keys) -> None:
        both, left = asyncio.Barrier(2), [1, 1]

        def hold(name: str) -> None:
            write = getattr(TableClient, name)

            async def held(self: TableClient, entity: dict[str, Any], **options: Any) -> Any:
                if left and entity.items() >= keys.items():
                    left.pop()
                    async with asyncio.timeout(20):
                        await both.wait()
                return await write(self, entity, **options)

            monkeypatch.setattr(TableClient, name, held)

        hold("create_entity")
        hold("update_entity")

    return arrange


@pytest.mark.parametrize("exists", [False, True], ids=["a new row", "an old row"])
async def test_no_status_is_lost(world: World, other: Services, meet: Meet, *, exists: bool) -> None:
    shard = "00"
    if exists:
        await world.services.shards.save(ShardState(shard))
    meet({"PartitionKey": "shard", "RowKey": shard})

    def count(state: ShardState) -> ShardState:
        return replace(state, clusters=state.clusters + 1)

    await asyncio.gather(*(one.shards.update(shard, count) for one in (world.services, other)))
    assert (await world.services.shards.read(shard)).clusters == 2


@pytest.mark.parametrize("again", [False, True], ids=["the first onboarding", "a later one"])
async def test_of_two_requests_one_begins_and_the_other_is_refused(
    world: World, other: Services, meet: Meet, *, again: bool
) -> None:
    cluster = await world.cloud.add_cluster("aks-1", "main", ready=False)
    request = Onboarding(cluster=cluster.id, hub="main")
    if again:
        begun = await world.services.onboarder.onboard(request)
        stored = await world.services.runner._operations.load(begun.id)
        failed = stored.operation.model_copy(update={"status": "Failed"})
        await world.services.runner._operations.save(replace(stored, operation=failed))
    meet(entity_keys(cluster.id))
    ended = await asyncio.gather(
        *(one.onboarder.onboard(request) for one in (world.services, other)), return_exceptions=True
    )
    [begun] = [one for one in ended if isinstance(one, Operation)]
    [refused] = [one for one in ended if isinstance(one, OperationRunning)]
    assert refused.context["operation"] == f"/api/operations/{begun.id}"
    assert await world.services.runner._operations.list_running() == [begun.id]
    assert await world.services.queues["onboarding"].depth() == 1 + again


async def test_of_two_invocations_one_writes_the_operation(world: World, other: Services, meet: Meet) -> None:
    cluster = await world.cloud.add_cluster("aks-1", "main", ready=False)
    begun = await world.services.onboarder.onboard(Onboarding(cluster=cluster.id, hub="main"))
    operations = [one.runner._operations for one in (world.services, other)]
    stored = [await one.load(begun.id) for one in operations]
    meet({"PartitionKey": "operation", "RowKey": begun.id})
    saved = await asyncio.gather(
        *(one.save(replace(row, tries=row.tries + 1)) for one, row in zip(operations, stored, strict=True)),
        return_exceptions=True,
    )
    assert sorted(isinstance(one, ChangedByAnother) for one in saved) == [False, True]
    assert (await operations[0].load(begun.id)).tries == 1


async def test_of_two_instances_that_resume_an_operation_one_sends_its_message(
    world: World, other: Services, meet: Meet
) -> None:
    cluster = await world.cloud.add_cluster("aks-1", "main", ready=False)
    begun = await world.services.onboarder.onboard(Onboarding(cluster=cluster.id, hub="main"))
    stored = await world.services.runner._operations.load(begun.id)
    await world.services.runner._operations.save(replace(stored, due=None))
    world.clock.advance(timedelta(minutes=4))
    meet({"PartitionKey": "operation", "RowKey": begun.id})
    await asyncio.gather(*(one.messages.resume_stalled() for one in (world.services, other)))
    assert await world.services.queues["onboarding"].depth() == 2
    assert (await world.services.runner._operations.load(begun.id)).tries == 1


@pytest.mark.parametrize("earlier", [False, True], ids=["the first time", "again"])
async def test_one_process_refreshes_the_fleet_for_a_revoked_token(
    world: World, other: Services, meet: Meet, *, earlier: bool
) -> None:
    cluster = await world.join("aks-1")
    replaced = [one.federation._replace_revoked for one in (world.services, other)]
    if earlier:
        await replaced[0]("hub", world.clock())
        world.clock.advance(world.services.settings.hubs["main"].life)
    meet({"PartitionKey": "replacement", "RowKey": "hub"})
    queued = await asyncio.gather(*(replace_tokens("hub", world.clock()) for replace_tokens in replaced))
    assert sorted(queued) == [0, 1], shard_of(cluster.id)
