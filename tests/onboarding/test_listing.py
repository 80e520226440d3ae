"""Operations are listed by status and by cluster, with counts, at a cost that does not grow with their number."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest
from azure.data.tables.aio import TableClient, TableServiceClient

from local.cloud import GROUP, SUBSCRIPTION, LocalCluster
from local.serving import Fault
from pullkeeper.model import ClusterId
from pullkeeper.onboarding.documents import Onboarding as Request
from pullkeeper.onboarding.documents import Operation, OperationsPage, OperationStatus
from pullkeeper.onboarding.documents import OperationsQuery as Query
from pullkeeper.onboarding.rows import StoredOperation, create_operation_id
from tests.onboarding.conftest import Onboarding
from tests.onboarding.test_resume import Killed

pytestmark = pytest.mark.servers
NONE: Mapping[OperationStatus, int] = {
    "Queued": 0,
    "Running": 0,
    "Succeeded": 0,
    "AwaitingFederation": 0,
    "Failed": 0,
}


async def list_page(onboarding: Onboarding, **query: Any) -> OperationsPage:
    return await onboarding.world.services.listing.page(Query(**query))


async def list_ids(onboarding: Onboarding, **query: Any) -> list[str]:
    return [one.id for one in (await list_page(onboarding, **query)).operations]


@contextmanager
def count_rows() -> Iterator[list[int]]:
    """Count the rows that queries return, by their filter."""
    rows: list[int] = []
    query = TableClient.query_entities

    def counted(self: TableClient, *arguments: Any, **named: Any) -> Any:
        pages = query(self, *arguments, **named)

        async def count() -> Any:
            async for row in pages:
                rows.append(1)
                yield row

        return count()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TableClient, "query_entities", counted)
        yield rows


async def add_ended(onboarding: Onboarding, count: int, began: datetime) -> None:
    """Write down operations that have succeeded."""
    operations = onboarding.world.services.runner._operations
    async with TableServiceClient.from_connection_string(onboarding.world.storage) as tables:
        table = await tables.create_table_if_not_exists("operations")
        for first in range(0, count, 100):
            stored = [_ended(began + timedelta(seconds=number)) for number in range(first, first + 100)]
            for rows in ([one.to_entity() for one in stored], [one.to_summary() for one in stored]):
                await table.submit_transaction([("upsert", row) for row in rows])
    assert await operations.list_running() == []


def _ended(at: datetime) -> StoredOperation:
    cluster = ClusterId(SUBSCRIPTION, GROUP, "earlier")
    names: dict[str, Any] = {"kind": "onboard", "status": "Succeeded", "cluster": cluster}
    operation = Operation(id=create_operation_id(at), created_at=at, updated_at=at, **names)
    return StoredOperation(operation, Request(cluster=cluster).to_json(), "")


def test_operations_that_begin_at_the_same_time_have_different_ids() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert len({create_operation_id(now) for _ in range(100)}) == 100


async def test_every_status_is_listed_and_counted(onboarding: Onboarding) -> None:
    failing, *others = [await onboarding.cluster(f"aks-{number}") for number in range(5)]
    onboarding.world.cloud.arm_part.faults.add(Fault(path="/managedClusters/aks-0", status=403, body="{}"))
    failed = await onboarding.run({"cluster": str(failing.id), "hub": "main"})
    onboarding.world.cloud.arm_part.faults.clear()
    awaiting = await onboarding.run({"cluster": str(others[0].id)})
    succeeded = await onboarding.onboard(others[1])
    onboarding.world.cloud.arm_part.faults.add(Fault(path="/managedClusters/aks-3", status=429))
    running = await onboarding.begin({"cluster": str(others[2].id), "hub": "main"})
    await onboarding.deliver(running.id)
    queued = await onboarding.begin({"cluster": str(others[3].id), "hub": "main"})

    page = await list_page(onboarding)

    assert [one.id for one in page.operations] == [one.id for one in (queued, running, succeeded, awaiting, failed)]
    assert page.counts == dict.fromkeys(NONE, 1)
    assert await list_ids(onboarding, cluster=ClusterId(SUBSCRIPTION, GROUP, "never-onboarded")) == []
    for one in page.operations:
        assert await list_ids(onboarding, status=one.status) == [one.id]
        assert await list_ids(onboarding, cluster=one.cluster) == [one.id]
        assert await list_ids(onboarding, cluster=one.cluster, status="Failed") == [failed.id] * (one.id == failed.id)


async def test_a_page_reads_no_operation_that_it_does_not_return_and_counts_none_twice(onboarding: Onboarding) -> None:
    clock = onboarding.world.clock
    await add_ended(onboarding, 1200, clock() - timedelta(days=3))
    cluster = await onboarding.cluster("aks-1")
    await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    counts = {**NONE, "Succeeded": 1200, "Queued": 1}
    assert (await list_page(onboarding)).counts == counts

    for query, returned in (
        ({"status": "Queued"}, 1),
        ({"status": "Failed"}, 0),
        ({"cluster": cluster.id}, 1),
        ({"status": "Succeeded"}, 100),
    ):
        with count_rows() as rows:
            page = await list_page(onboarding, **query)
        assert (len(page.operations), page.counts) == (returned, counts)
        assert len(rows) <= returned + 4


@pytest.mark.parametrize("status", ["Succeeded", None])
async def test_the_pages_of_a_list_hold_each_operation_once(
    onboarding: Onboarding, status: OperationStatus | None
) -> None:
    await add_ended(onboarding, 300, onboarding.world.clock() - timedelta(days=1))
    seen, after, pages = [], None, 0
    while True:
        pages += 1
        page = await list_page(onboarding, status=status, continuation=after)
        seen += [one.id for one in page.operations]
        after = page.continuation
        if after is None or pages > 3:
            break
    assert len(seen) == len(set(seen)) == 300
    assert pages == 3
    assert seen == sorted(seen)


async def test_counts_follow_operations_that_end_and_are_removed(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    assert (await list_page(onboarding)).counts == NONE
    await plan(onboarding, cluster)
    onboarding.world.clock.advance(timedelta(minutes=30))
    assert (await list_page(onboarding)).counts == {**NONE, "Succeeded": 1}
    assert await list_ids(onboarding, status="Running") == []
    await plan(onboarding, cluster)
    assert (await list_page(onboarding)).counts == {**NONE, "Succeeded": 2}
    onboarding.world.clock.advance(-timedelta(minutes=5))  # as the clock of another instance may be behind
    await plan(onboarding, cluster)
    assert (await list_page(onboarding)).counts == {**NONE, "Succeeded": 3}
    onboarding.world.clock.advance(timedelta(days=91))
    await onboarding.world.services.retention.remove_expired()
    assert await list_ids(onboarding, status="Succeeded") == []
    assert (await list_page(onboarding)).counts == NONE


async def test_an_operation_that_a_crash_removed_by_half_is_removed_by_the_next_run(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed behind the second row of three: that of the cluster, and one of two of the operation."""
    await plan(onboarding, await onboarding.cluster("aks-1"))
    onboarding.world.clock.advance(timedelta(days=91))
    delete = TableClient.delete_entity
    removed: list[object] = []

    async def delete_two(table: TableClient, *keys: Any, **named: Any) -> None:
        if len(removed) == 2:
            raise Killed
        removed.append(keys)
        await delete(table, *keys, **named)

    with monkeypatch.context() as patch:
        patch.setattr(TableClient, "delete_entity", delete_two)
        with pytest.raises(Killed):
            await onboarding.world.services.retention.remove_expired()
    await onboarding.world.services.retention.remove_expired()
    async with TableServiceClient.from_connection_string(onboarding.world.storage) as tables:
        assert [row async for row in tables.get_table_client("operations").list_entities()] == []


async def test_an_end_that_a_crash_left_out_of_the_index_is_indexed_by_the_timer(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = await onboarding.cluster("aks-1")
    with monkeypatch.context() as patch:
        patch.setattr("pullkeeper.onboarding.operations.Operations.index_ended", _do_nothing)
        planned = await plan(onboarding, cluster)
    assert await list_ids(onboarding, status="Succeeded") == []
    await onboarding.world.services.messages.resume_stalled()
    assert await list_ids(onboarding, status="Succeeded") == [planned.id]


async def test_an_operation_that_takes_long_is_counted_by_how_it_ends(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    begun = await onboarding.begin({"cluster": str(cluster.id), "dryRun": True})
    onboarding.world.clock.advance(timedelta(minutes=30))
    assert (await list_page(onboarding)).counts == {**NONE, "Queued": 1}
    await onboarding.process(begun.id)
    assert (await list_page(onboarding)).counts == {**NONE, "Succeeded": 1}


async def test_the_list_of_a_clusters_operations_has_a_bound(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one property of the cluster's row."""
    monkeypatch.setattr("pullkeeper.onboarding.operations._HISTORY", 2)
    cluster = await onboarding.cluster("aks-1")
    planned = [(await plan(onboarding, cluster)).id for _ in range(3)]
    assert await list_ids(onboarding, cluster=cluster.id) == [planned[2], planned[1]]
    assert await list_ids(onboarding, cluster=cluster.id, continuation=planned[2]) == [planned[1]]


async def test_an_end_that_storage_did_not_take_into_the_index_is_indexed_by_the_timer(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = await onboarding.cluster("aks-1")
    with monkeypatch.context() as patch:
        patch.setattr("pullkeeper.onboarding.rows.StoredOperation.to_summary", _end)
        with pytest.raises(Killed):
            await plan(onboarding, cluster)
    await onboarding.world.services.messages.resume_stalled()
    assert len(await list_ids(onboarding, status="Succeeded")) == 1


async def plan(onboarding: Onboarding, cluster: LocalCluster) -> Operation:
    return await onboarding.onboard(cluster, dryRun=True)


async def _do_nothing(*_: object) -> None:
    """As if the process had ended before."""


def _end(_: StoredOperation) -> NoReturn:
    raise Killed
