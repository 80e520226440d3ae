"""Every call to storage ends in time, for each kind of trigger: storage accepts connections and stays silent, or it
answers 503.
"""

import asyncio
import json
import time
from datetime import timedelta
from typing import Any, Final

import pytest

from local.cloud import LocalCluster
from pullkeeper.errors import StorageUnavailable
from pullkeeper.fleet import storage
from pullkeeper.fleet.queues import REFRESH, RefreshMessage
from pullkeeper.fleet.shard_table import ShardState
from pullkeeper.fleet.shards import shard_of
from pullkeeper.status import read_status
from tests.faults.gate import Gates
from tests.faults.triggers import FUNCTIONS, WITHOUT_CALLS, invoke
from tests.world import World

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("process")]
_CALL: Final = timedelta(seconds=0.3)
_LONGEST: Final = 5.0
"""Seconds. Without the limit a silent endpoint takes 10 at least: the time-out of the first try."""


_TIMER_AND_QUEUES: Final = ("schedule", "onboarding")
_ROUTES: Final = (
    "clusters",
    "cluster",
    "operations",
    "operation",
    "refresh_all",
    "refresh_cluster",
    "onboard",
    "offboard",
    "cluster_diagnosis",
)
_WITHOUT_STORAGE: Final = {*WITHOUT_CALLS, "handover", "hub_diagnosis"}
_REPORTS_WHAT_IT_CAN: Final = {"status"}


def test_every_function_that_calls_storage_is_tested_here() -> None:
    tested = {*_TIMER_AND_QUEUES, "refresh", "onboarding_poison", *_ROUTES}
    assert tested | _WITHOUT_STORAGE | _REPORTS_WHAT_IT_CAN == FUNCTIONS.keys()


@pytest.fixture(params=["silent", "503"])
async def cluster(request: pytest.FixtureRequest, world: World, gates: Gates, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A fresh cluster, whose status nothing can read any more."""
    cluster = await world.join("aks-1")
    await world.tick()
    monkeypatch.setattr(storage, "CALL", _CALL)
    gates.set(request.param)
    return cluster


async def test_every_method_of_tables_and_queues_fails_in_time(world: World, cluster: LocalCluster) -> None:
    """And as its callers expect: none of them handles an error of the SDK."""
    fleet, shards, queue = world.services.fleet, world.services.shards, world.services.queues[REFRESH]
    shard, now = shard_of(cluster.id), world.clock()
    calls = {
        "put": fleet.put(cluster.member),
        "remove": fleet.remove(cluster.id),
        "member": fleet.member(cluster.id),
        "shard": fleet.shard(shard),
        "shards": fleet.shards(),
        "totals": shards.totals(),
        "read": shards.read(shard),
        "read_range": shards.read_range(shard, shard),
        "make_due": shards.make_due(shard, now),
        "create": shards.save(ShardState(shard)),
        "replace": shards.save(ShardState(shard, etag="1")),
        "record_run": shards.record_run(now, now),
        "send": queue.put(RefreshMessage(shard=shard, reason="due")),
        "depth": queue.depth(),
    }
    ended = await asyncio.gather(*(asyncio.wait_for(call, _LONGEST) for call in calls.values()), return_exceptions=True)
    assert dict(zip(calls, map(type, ended), strict=True)) == dict.fromkeys(calls, StorageUnavailable)


@pytest.mark.parametrize("name", _TIMER_AND_QUEUES)
async def test_timer_and_queue_functions_fail_in_time(name: str, cluster: LocalCluster) -> None:
    began = time.monotonic()
    with pytest.raises(StorageUnavailable) as raised:
        await invoke(name, cluster)
    assert time.monotonic() - began < _LONGEST
    assert "az storage account show" in raised.value.remedy


@pytest.mark.parametrize(("name", "event"), [("refresh", "shard.completed"), ("onboarding_poison", "message.poisoned")])
async def test_functions_whose_message_is_done_report_it_in_time(
    world: World, name: str, event: str, cluster: LocalCluster
) -> None:
    """A shard stays due, and an operation stands still: the next tick sends both again."""
    world.events.seen.clear()
    began = time.monotonic()
    await invoke(name, cluster)
    assert time.monotonic() - began < _LONGEST
    [reported] = world.events.named(event)
    assert reported["category"] == "storage_unavailable"
    assert reported["detail"]
    assert "az storage account show" in reported["remedy"]


@pytest.mark.parametrize("name", _ROUTES)
async def test_routes_answer_503_with_the_remedy_in_time(name: str, cluster: LocalCluster) -> None:
    began = time.monotonic()
    response = await invoke(name, cluster)
    assert time.monotonic() - began < _LONGEST
    problem = json.loads(response.get_body())
    assert (response.status_code, problem["category"]) == (503, "storage_unavailable")
    assert "az storage account show" in problem["remedy"]


@pytest.mark.usefixtures("cluster")
async def test_the_status_says_why_it_has_no_figures(world: World) -> None:
    report = await read_status(world.services.settings, lambda: world.services)
    assert (report.totals, report.queues) == (None, None)
    *_, problem = report.problems
    assert (problem.severity, problem.detail.partition(":")[0]) == ("error", "storage_unavailable")
    assert problem.remedy.startswith("az storage account show")
    assert problem.runbook == world.services.documentation.page("storage_unavailable")


async def test_a_run_that_cannot_read_the_fleet_is_reported(world: World, cluster: LocalCluster) -> None:
    world.events.seen.clear()
    with pytest.raises(StorageUnavailable):
        await invoke("schedule", cluster)
    [event] = world.events.named("run.completed")
    assert event["category"] == "storage_unavailable"
    assert "az storage account show" in event["remedy"]


@pytest.mark.parametrize("name", ["schedule", "refresh", "clusters", "refresh_all"])
async def test_a_503_that_is_followed_by_an_answer_is_retried(
    world: World, gates: Gates, azure_waits: list[float], name: str
) -> None:
    """Of tables and queues; the waits leave time for the tries."""
    cluster = await world.join("aks-1")
    await world.tick()
    for service in ("Table", "Queue"):
        gates[service].set("503", times=3)
    response = await invoke(name, cluster)
    assert response is None or response.status_code < 300
    assert azure_waits
    assert sum(azure_waits) < storage.CALL.total_seconds()
