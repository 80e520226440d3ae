"""The app's own storage fails, or holds rows that cannot be read."""

import asyncio
import re
from dataclasses import replace

import pytest
from azure.core.exceptions import ServiceResponseError
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient, TableServiceClient

from pullkeeper.errors import StorageUnavailable
from pullkeeper.fleet.queues import RefreshMessage
from pullkeeper.fleet.shard_table import ShardState
from pullkeeper.fleet.shards import shard_of
from pullkeeper.fleet.table import columns, entity_keys
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


async def test_a_tick_reads_no_statuses(world: World, gates: Gates) -> None:
    """Of 25,000 targets they are 1 MiB, for each shard."""
    await world.join("aks-1")
    gates["Table"].requests.clear()
    await world.services.scheduler.run()
    queries = [path for _, method, path in gates["Table"].requests if method == "GET" and "/shards" in path]
    assert queries
    assert not [path for path in queries if "select=" not in path or "Status" in path]


async def test_a_query_reads_no_more_rows_than_are_wanted_and_the_service_gives(world: World, gates: Gates) -> None:
    """The service refuses a query for more than 1,000 rows at once."""
    for number in range(3):
        await world.join(f"aks-{number}")
    gates["Table"].requests.clear()
    assert len(await world.services.fleet.page(None, 2)) == 2
    await world.services.fleet.shard("00")
    assert re.findall(r"top=(\d+)", str(gates["Table"].requests)) == ["2", "1000"]


async def test_without_the_queue_everything_stays_due(world: World, gates: Gates) -> None:
    """The caller gets one StorageUnavailable, not a group of errors."""
    await world.join("aks-1")
    await world.join("aks-2")
    await world.services.scheduler.run()
    gates["Queue"].set("shut")
    world.clock.advance(30 * MINUTE)
    before = await world.services.shards.totals()
    with pytest.raises(StorageUnavailable):
        await world.services.scheduler.run()
    with pytest.raises(StorageUnavailable):
        await world.services.scheduler.refresh_all_now()
    assert before == await world.services.shards.totals(), "and no run has been made"


async def test_an_outage_after_the_secret_was_written_is_repaired_by_the_next_run(world: World, gates: Gates) -> None:
    """The secret is written, the status is not: the shard is still due."""
    cluster = await world.join("aks-1")
    save = world.services.shards.save

    async def fail(state: ShardState) -> ShardState | None:
        gates.set("shut")
        return await save(state)

    world.services.shards.save = fail  # type: ignore[method-assign]
    message = RefreshMessage(shard=shard_of(cluster.id), reason="due")
    await world.services.refresher.refresh(message)
    assert world.events.named("shard.completed")[-1]["category"] == "storage_unavailable"
    token = await world.read_token(cluster)
    gates.set("open")
    world.services.shards.save = save  # type: ignore[method-assign]
    assert (await world.status(cluster)).targets == {}
    await world.services.refresher.refresh(message)
    assert token == await world.read_token(cluster)
    assert (await world.target(cluster)).state(world.clock()) == "fresh"


@pytest.mark.parametrize("table", ["fleet", "shards"])
@pytest.mark.parametrize(
    "broken",
    [
        {"Member0": "{", "Status0": b"{"},
        {"Member0": '{"hub": "main"}', "Status0": b"x\x9c\x03\x00"},
        {"Member0": 7, "Status0": 7},
        {"Member0": "", "Status0": b"", "NextDue": "soon", "States": "[]", "LifeSeconds": "long"},
        {"Member0": "[]", "LifeSeconds": 1e300},
        {"Member0": "null", "States": "[]"},
        {"Member0": "[", "NextDue": "soon", "ReportedAt": 7},
    ],
    ids=["no-json", "other-json", "number", "missing", "ages", "array", "no-times"],
)
async def test_a_row_that_cannot_be_read_hides_no_other(world: World, table: str, broken: dict[str, object]) -> None:
    bad, *good = [await world.join(f"aks-{n}") for n in range(3)]
    await world.tick()
    keys = entity_keys(bad.id) if table == "fleet" else {"PartitionKey": "shard", "RowKey": shard_of(bad.id)}
    async with TableServiceClient.from_connection_string(world.storage) as tables:
        await tables.get_table_client(table).update_entity({**keys, **broken}, mode=UpdateMode.MERGE)
    world.clock.advance(25 * MINUTE)
    await world.tick()
    for cluster in good:
        issued = world.cloud.google.lookup(await world.read_token(cluster))
        assert issued is not None
        assert issued.expires_at - world.clock() > 50 * MINUTE
    if table == "shards":
        # The status is written again: it says nothing that the next refresh does not find out.
        assert (await world.target(bad)).state(world.clock()) == "fresh"
    else:
        [event] = [event for event in world.events.named("fleet.status") if event["cluster"] == str(bad.id)][-1:]
        assert event["category"] == "invalid_request"
        assert event["remedy"].startswith("Correct the fields that the message names.")


async def test_a_row_is_replaced_as_a_whole(world: World) -> None:
    """The publisher no longer has to trust an identity that the cluster does not use any more."""
    member, fleet = (await world.join("aks-1")).member, world.services.fleet
    await fleet.put(replace(member, identity="1"))
    async with TableServiceClient.from_connection_string(world.storage) as tables:
        unread = {"PartitionKey": "00", "RowKey": "s|g|n", "Format": 2, "Identity": "2"}
        await tables.get_table_client("fleet").create_entity(unread)
    assert await fleet.trusted_members() == [replace(member, identity="1")]
    await fleet.put(member)
    assert await fleet.trusted_members() == []


async def test_a_cluster_that_could_not_be_removed_keeps_its_status(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is still in the fleet."""
    cluster = await world.join("aks-1")
    before = await world.refresh(cluster)

    async def fail(*_: object, **__: object) -> None:
        raise ServiceResponseError("no response")

    monkeypatch.setattr(TableClient, "delete_entity", fail)
    with pytest.raises(StorageUnavailable):
        await world.services.fleet.remove(cluster.id)
    assert await world.status(cluster) == before


async def test_a_row_that_holds_another_cluster_is_not_refreshed(world: World) -> None:
    """Its secrets would be written twice, and its status under another name."""
    cluster, other = await world.join("aks-1"), await world.join("aks-2")
    row = {**entity_keys(cluster.id), **columns("Member", other.member.cluster.to_json())}
    async with TableServiceClient.from_connection_string(world.storage) as tables:
        await tables.get_table_client("fleet").update_entity(row, mode=UpdateMode.MERGE)
    await world.tick()
    assert (await world.status(cluster)).targets == {}
    [event] = [event for event in world.events.named("fleet.status") if event["cluster"] == str(cluster.id)]
    assert event["category"] == "invalid_request"
    assert cluster.part.journal.count("PATCH", "/secrets/") == 0
    assert other.part.journal.count("PATCH", "/secrets/") == 1


@pytest.mark.parametrize("row_key", ["nothing", "a|b|c", "..:x|y", "it's|b|c"])
async def test_a_row_whose_key_is_no_clusters_hides_no_other(world: World, row_key: str) -> None:
    cluster = await world.join("aks-1")
    keys = {**entity_keys(cluster.id), "RowKey": row_key}
    async with TableServiceClient.from_connection_string(world.storage) as tables:
        await tables.get_table_client("fleet").upsert_entity({**keys, "Format": 1, "Member0": "{}"})
    await world.tick()
    assert (await world.target(cluster)).state(world.clock()) == "fresh"
    [run] = world.events.named("shard.completed")
    assert (run["clusters"], run["unreadable"]) == (2, 1)
    assert len((await world.services.overview.page(None, None))[0]) == 2
    [unread] = (await world.services.overview.page("unknown", None))[0]
    assert (unread.states, unread.cluster == cluster.id) == ({"unknown": 1}, False)
    assert unread.worst
    assert str(unread.worst.remedy).startswith("Correct the fields that the message names.")
    assert str(unread.worst.runbook).endswith("/invalid_request.md")


async def test_two_schedulers_at_once_cost_no_further_write(world: World) -> None:
    clusters = [await world.join(f"aks-{n}") for n in range(3)]
    await world.tick()
    world.clock.advance(25 * MINUTE)
    calls = [cluster.part.journal.count("PATCH", "/secrets/") for cluster in clusters]
    other = world.build_services()
    try:
        await asyncio.gather(world.services.scheduler.run(), other.scheduler.run())
    finally:
        await other.close()
    assert await world.process_queue() == 2 * len({shard_of(cluster.id) for cluster in clusters})
    for cluster, before in zip(clusters, calls, strict=True):
        assert cluster.part.journal.count("PATCH", "/secrets/") - before == 1
    assert world.cloud.google.exchanges == 2
    assert world.events.named("drift.repaired") == []
