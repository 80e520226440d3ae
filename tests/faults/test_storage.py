"""The app's own storage fails, or holds what nobody can read."""

from collections.abc import AsyncIterator, Callable

import pytest
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableServiceClient

from local.cloud import LocalCluster
from pullkeeper.errors import StorageUnavailable
from tests.faults.gate import Gate, gated
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers


@pytest.fixture
async def gates(world: World) -> AsyncIterator[list[Gate]]:
    """Between the app and its storage; the test itself goes round them."""
    direct = world.storage
    async with gated(direct) as (behind, gates):
        world.storage = behind
        assert world.services
        world.storage = direct
        try:
            yield gates
        finally:
            await world.services.close()
            world._services = None


def _shut(gates: list[Gate]) -> None:
    for gate in gates:
        gate.shut()


def _open(gates: list[Gate]) -> None:
    for gate in gates:
        gate.open()


async def test_nothing_of_storage_is_loud_and_soon(world: World, gates: list[Gate], azure_waits: list[float]) -> None:
    """Every use case says so, long before the platform would kill the host for an invocation of five minutes."""
    cluster = await world.join("aks-1")
    await world.tick()
    _shut(gates)
    scheduler = world.services.scheduler
    calls: dict[str, Callable[[], object]] = {
        "run": scheduler.run,
        "refresh_now": lambda: scheduler.refresh_now(cluster.id),
        "refresh_all_now": scheduler.refresh_all_now,
        "refresh": lambda: world.refresh(cluster),
        "give_up": lambda: world.services.refresher.give_up(f'{{"cluster": "{cluster.id}", "reason": "due"}}'.encode()),
    }
    for call in calls.values():
        azure_waits.clear()
        with pytest.raises(StorageUnavailable):
            await call()  # type: ignore[misc]
        assert sum(azure_waits) < 60


async def test_the_next_tick_repairs(world: World, gates: list[Gate]) -> None:
    clusters = [await world.join(f"aks-{n}") for n in range(3)]
    await world.tick()
    world.clock.advance(25 * MINUTE)
    _shut(gates)
    with pytest.raises(StorageUnavailable):
        await world.services.scheduler.run()
    _open(gates)
    world.clock.advance(5 * MINUTE)
    await world.tick()
    for cluster in clusters:
        issued = world.cloud.google.lookup(await world.read_token(cluster))
        assert issued is not None
        assert issued.expires_at - world.clock() > 50 * MINUTE


async def test_only_the_queue_is_down(world: World, gates: list[Gate]) -> None:
    """One refusal to queue is StorageUnavailable for the caller, not a group of errors; no lease is taken."""
    await world.join("aks-1")
    await world.join("aks-2")
    await world.services.scheduler.run()
    for gate in gates:
        if f":{gate._behind}/" in world.storage.split("QueueEndpoint=")[1].split(";")[0]:
            gate.shut()
    world.clock.advance(30 * MINUTE)
    due = [held.status.next_due async for held in world.services.fleet.statuses()]
    with pytest.raises(StorageUnavailable):
        await world.services.scheduler.run()
    with pytest.raises(StorageUnavailable):
        await world.services.scheduler.refresh_all_now()
    assert due == [held.status.next_due async for held in world.services.fleet.statuses()]


async def test_storage_lost_between_the_secret_and_the_status_claims_nothing(world: World, gates: list[Gate]) -> None:
    """The secret is written, the status is not; the same message again makes both right."""
    cluster = await world.join("aks-1")
    update = world.services.fleet.update

    async def cut(*args: object) -> object:
        _shut(gates)
        return await update(*args)  # type: ignore[arg-type]

    world.services.fleet.update = cut  # type: ignore[method-assign, assignment]
    with pytest.raises(StorageUnavailable):
        await world.refresh(cluster)
    token = await world.read_token(cluster)
    _open(gates)
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
async def test_a_row_that_nobody_can_read_hides_no_other(world: World, table: str, broken: dict[str, object]) -> None:
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
        # A status is made anew, for it says nothing that the next refresh does not find out.
        assert (await world.target(bad)).state(world.clock()) == "fresh"
    else:
        told = world.events.named("message.poisoned")
        assert [event["category"] for event in told] == ["invalid_request"]


@pytest.mark.parametrize("row_key", ["nothing", "a|b|c", "../x|y"])
async def test_a_row_under_no_clusters_key_hides_no_other(world: World, row_key: str) -> None:
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


async def test_two_schedulers_at_once_cost_one_write_more_at_most(world: World) -> None:
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
