"""Operations are removed 90 days after their end, unless their cluster still needs them."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from azure.data.tables.aio import TableClient, TableServiceClient
from azure.functions.timer import TimerRequest

from functions.schedule import schedule
from local.cloud import LocalCluster
from local.kubernetes import recordings
from pullkeeper.deadline import INVOCATION, deadline
from pullkeeper.errors import NotInFleet, OperationRunning
from pullkeeper.fleet.storage import CALL
from pullkeeper.model import ClusterId
from pullkeeper.onboarding import retention
from pullkeeper.onboarding.documents import Operation, OperationsQuery
from pullkeeper.onboarding.operations import Operations
from tests.onboarding.conftest import Onboarding, list_content

pytestmark = pytest.mark.servers
DAY = timedelta(days=1)
RETENTION = 90 * DAY
WEEK = 7 * DAY
_TIMER = schedule._function.get_user_function()


@pytest.fixture(autouse=True)
def _app(onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the timer use the services of the test's world."""
    monkeypatch.setattr("functions.schedule.services", lambda: onboarding.world.services)


async def _list(onboarding: Onboarding, **query: Any) -> list[str]:
    page = await onboarding.world.services.listing.page(OperationsQuery(**query))
    return [operation.id for operation in page.operations]


async def _advance(onboarding: Onboarding, time: timedelta) -> None:
    """Let time pass, and the timer run."""
    onboarding.world.clock.advance(time)
    await _TIMER(TimerRequest(past_due=False))


async def _plan(onboarding: Onboarding, cluster: LocalCluster) -> str:
    """Run an operation that changes nothing, so that offboarding has nothing to undo."""
    planned = await onboarding.onboard(cluster, dryRun=True)
    return planned.id


async def test_an_operation_is_removed_90_days_after_its_end(onboarding: Onboarding) -> None:
    """However long it took."""
    cluster = await onboarding.cluster("aks-1")
    planned = (await onboarding.begin({"cluster": str(cluster.id), "dryRun": True})).id
    onboarding.world.clock.advance(DAY)
    await onboarding.process(planned)
    await _advance(onboarding, RETENTION - timedelta(minutes=1))
    assert await _list(onboarding) == [planned]
    await _advance(onboarding, timedelta(minutes=1))
    assert await _list(onboarding) == []
    with pytest.raises(NotInFleet):
        await onboarding.world.services.onboarder.get_operation(planned)


async def test_a_cluster_in_the_fleet_keeps_its_latest_operation_and_those_to_undo(onboarding: Onboarding) -> None:
    """They are looked at again a week later, and in between the timer does not read them."""
    cluster = await onboarding.cluster("aks-1")
    replaced = await onboarding.onboard(cluster)
    last = await onboarding.onboard(cluster)
    planned = await _plan(onboarding, cluster)
    await _advance(onboarding, RETENTION + DAY)
    assert await _list(onboarding, cluster=cluster.id) == await _list(onboarding) == [planned, last.id]
    assert replaced.id not in await _list(onboarding)

    await onboarding.restart()
    newest = await _plan(onboarding, cluster)
    await _advance(onboarding, WEEK - DAY)
    assert await _list(onboarding) == [newest, planned, last.id]
    await _advance(onboarding, 2 * DAY)
    assert await _list(onboarding) == [newest, last.id]


async def test_what_was_onboarded_90_days_ago_is_offboarded_fully(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    before = await list_content(cluster)
    await onboarding.onboard(cluster, identity="another-identity")
    await _advance(onboarding, RETENTION + DAY)
    await onboarding.restart()
    await onboarding.offboard_fully(cluster)
    assert onboarding.identity("another-identity") is None
    assert set(await list_content(cluster)) - set(before) == {"/api/v1/namespaces//deepintshield"}


async def test_after_offboarding_everything_is_removed(onboarding: Onboarding) -> None:
    """Also what was to be undone; the cluster can be onboarded again."""
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster)
    await onboarding.offboard_fully(cluster)
    await _advance(onboarding, RETENTION + DAY)
    assert await _list(onboarding) == []
    assert await onboarding.world.services.runner._operations.latest(cluster.id) is None
    await onboarding.restart()
    again = await onboarding.onboard(cluster)
    assert await _list(onboarding) == [again.id]


async def test_an_offboarding_that_left_something_keeps_what_it_has_to_undo(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarded = await onboarding.onboard(cluster)
    cluster.part.faults.add(recordings.fault("webhook-denies", method="DELETE", path="/roles/"))
    offboarded = await onboarding.offboard(cluster)
    assert offboarded.result is not None
    assert not offboarded.result.complete
    assert await onboarding.fleet() == set()
    await _advance(onboarding, RETENTION + DAY)
    assert await _list(onboarding) == [offboarded.id, onboarded.id]


async def test_an_onboarding_stays_if_the_operation_after_it_is_lost(onboarding: Onboarding) -> None:
    """Its offboarding still has to undo it."""
    cluster = await onboarding.cluster("aks-1")
    onboarded, lost = await onboarding.onboard(cluster), await _plan(onboarding, cluster)
    async with TableServiceClient.from_connection_string(onboarding.world.storage) as tables:
        for partition in ("operation", "ended:Succeeded"):
            await tables.get_table_client("operations").delete_entity(partition, lost)
    await _advance(onboarding, RETENTION + DAY)
    assert await _list(onboarding) == [onboarded.id]


async def test_a_running_operation_is_never_removed(onboarding: Onboarding) -> None:
    begun = await onboarding.begin({"cluster": str((await onboarding.cluster("aks-1")).id), "hub": "main"})
    await _advance(onboarding, 2 * RETENTION)
    assert await _list(onboarding) == [begun.id]


async def test_one_run_removes_a_slice(onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_SLICE", 2)
    cluster = await onboarding.cluster("aks-1")
    for _ in range(5):
        await _plan(onboarding, cluster)
    await _advance(onboarding, RETENTION + DAY)
    assert len(await _list(onboarding)) == 3
    await _advance(onboarding, timedelta())
    assert len(await _list(onboarding)) == 1


async def test_a_run_ends_once_its_time_is_up(onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves the time of one call for what the timer does next."""
    cluster, loop, delete = await onboarding.cluster("aks-1"), asyncio.get_running_loop(), TableClient.delete_entity
    for _ in range(2):
        await _plan(onboarding, cluster)
    onboarding.world.clock.advance(RETENTION + DAY)
    real, passed = loop.time, list[float]()

    async def delete_slowly(self: TableClient, partition: str, row: str, **more: Any) -> None:
        await delete(self, partition, row, **more)
        if partition == "operation":
            passed.append((INVOCATION - CALL).total_seconds())

    monkeypatch.setattr(loop, "time", lambda: real() + sum(passed))
    monkeypatch.setattr(TableClient, "delete_entity", delete_slowly)
    with deadline():
        await onboarding.world.services.retention.remove_expired()
    assert len(await _list(onboarding)) == 1


async def test_an_operation_that_begins_meanwhile_keeps_its_clusters_row(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, latest = await onboarding.cluster("aks-1"), Operations.latest
    planned = await _plan(onboarding, cluster)
    begun: list[Operation] = []

    async def look_slowly(self: Operations, wanted: ClusterId) -> Operation | None:
        found = await latest(self, wanted)
        monkeypatch.setattr(Operations, "latest", latest)
        begun.append(await onboarding.begin({"cluster": str(cluster.id), "dryRun": True}))
        return found

    monkeypatch.setattr(Operations, "latest", look_slowly)
    await _advance(onboarding, RETENTION + DAY)
    assert await _list(onboarding) == [begun[0].id, planned]
    assert await onboarding.world.services.runner._operations.latest(cluster.id) == begun[0]


async def test_an_operation_whose_clusters_row_is_removed_meanwhile_does_not_begin(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller sends it again."""
    cluster, list_to_undo = await onboarding.cluster("aks-1"), Operations._list_to_undo
    await _plan(onboarding, cluster)

    async def list_slowly(self: Operations, *which: Any) -> list[str]:
        found = await list_to_undo(self, *which)
        await _advance(onboarding, RETENTION + DAY)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Operations, "_list_to_undo", list_slowly)
        with pytest.raises(OperationRunning):
            await onboarding.begin({"cluster": str(cluster.id), "dryRun": True})
    assert await _list(onboarding) == []
    await onboarding.begin({"cluster": str(cluster.id), "dryRun": True})
