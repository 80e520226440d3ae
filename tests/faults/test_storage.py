"""The app's own storage fails, or holds rows that cannot be read."""

import pytest
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableServiceClient

from local.cloud import LocalCluster
from pullkeeper.errors import StorageUnavailable
from tests.faults.gate import Gates
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers


async def test_the_next_tick_makes_up_for_an_outage(world: World, gates: Gates) -> None:
    clusters = [await world.join(f"aks-{n}") for n in range(3)]
    await world.tick()
    world.clock.advance(25 * MINUTE)
    gates.set("shut")
    with pytest.raises(StorageUnavailable):
        await world.services.scheduler.run()
    gates.set("open")
    world.clock.advance(5 * MINUTE)
    await world.tick()
    for cluster in clusters:
        issued = world.cloud.google.lookup(await world.read_token(cluster))
        assert issued is not None
        assert issued.expires_at - world.clock() > 50 * MINUTE


async def test_without_the_queue_no_lease_is_taken(world: World, gates: Gates) -> None:
    """The caller gets one StorageUnavailable, not a group of errors."""
    await world.join("aks-1")
    await world.join("aks-2")
    await world.services.scheduler.run()
    gates["Queue"].set("shut")
    world.clock.advance(30 * MINUTE)
    due = [held.status.next_due async for held in world.services.fleet.statuses()]
    with pytest.raises(StorageUnavailable):
        await world.services.scheduler.run()
    with pytest.raises(StorageUnavailable):
        await world.services.scheduler.refresh_all_now()
    assert due == [held.status.next_due async for held in world.services.fleet.statuses()]


async def test_an_outage_after_the_secret_was_written_is_repaired_by_the_next_try(world: World, gates: Gates) -> None:
    """The secret is written, the status is not; the message is delivered again."""
    cluster = await world.join("aks-1")
    update = world.services.fleet.update

    async def fail(*args: object) -> object:
        gates.set("shut")
        return await update(*args)  # type: ignore[arg-type]

    world.services.fleet.update = fail  # type: ignore[method-assign, assignment]
    with pytest.raises(StorageUnavailable):
        await world.refresh(cluster)
    token = await world.read_token(cluster)
    gates.set("open")
    world.services.fleet.update = update  # type: ignore[method-assign]
    assert await world.services.fleet.status(cluster.id) is None
    await world.refresh(cluster)
    assert token == await world.read_token(cluster)
    assert (await world.target(cluster)).state(world.clock()) == "fresh"


@pytest.mark.parametrize("table", ["clusters", "status"])
@pytest.mark.parametrize(
    "broken",
    [{"Document": "{"}, {"Document": '{"hub": "main"}'}, {"Document": 7}, {}],
    ids=["no-json", "other-json", "number", "missing"],
)
async def test_a_row_that_cannot_be_read_hides_no_other(world: World, table: str, broken: dict[str, object]) -> None:
    bad, *good = [await world.join(f"aks-{n}") for n in range(3)]
    await world.tick()
    await _replace(world, table, bad, broken)
    world.clock.advance(25 * MINUTE)
    await world.tick()
    for cluster in good:
        issued = world.cloud.google.lookup(await world.read_token(cluster))
        assert issued is not None
        assert issued.expires_at - world.clock() > 50 * MINUTE
    if table == "status":
        # The status is written again: it says nothing that the next refresh does not find out.
        assert (await world.target(bad)).state(world.clock()) == "fresh"
    else:
        assert [event["category"] for event in world.events.named("message.poisoned")] == ["invalid_request"]


@pytest.mark.parametrize("row_key", ["nothing", "a|b|c", "../x|y"])
async def test_a_row_whose_key_is_no_clusters_hides_no_other(world: World, row_key: str) -> None:
    cluster = await world.join("aks-1")
    async with TableServiceClient.from_connection_string(world.storage) as tables:
        entity = {"PartitionKey": cluster.id.subscription, "RowKey": row_key.replace("/", ":"), "Document": "{}"}
        for table in ("clusters", "status"):
            await (await tables.create_table_if_not_exists(table)).upsert_entity(entity)
    await world.tick()
    assert (await world.target(cluster)).state(world.clock()) == "fresh"


async def _replace(world: World, table: str, cluster: LocalCluster, content: dict[str, object]) -> None:
    keys = {"PartitionKey": cluster.id.subscription, "RowKey": f"{cluster.id.resource_group}|{cluster.id.name}"}
    async with TableServiceClient.from_connection_string(world.storage) as tables:
        client = tables.get_table_client(table)
        await client.upsert_entity({**keys, **content}, mode=UpdateMode.REPLACE)


async def test_two_schedulers_at_once_cost_at_most_one_write_more(world: World) -> None:
    clusters = [await world.join(f"aks-{n}") for n in range(3)]
    await world.tick()
    world.clock.advance(25 * MINUTE)
    calls = [cluster.part.journal.count("PATCH", "/secrets/") for cluster in clusters]
    other = world.build_services()
    try:
        await world.services.scheduler.run()
        await other.scheduler.run()
    finally:
        await other.close()
    await world.process_queue()
    for cluster, before in zip(clusters, calls, strict=True):
        assert cluster.part.journal.count("PATCH", "/secrets/") - before <= 2
    assert world.cloud.google.exchanges == 2
    assert world.events.named("drift.repaired") == []
