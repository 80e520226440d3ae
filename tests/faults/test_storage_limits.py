"""Every call to storage ends in time, for each kind of trigger: storage accepts connections and stays silent, or it
answers 503.
"""

import json
import time
from datetime import timedelta
from typing import Any, Final

import azure.functions as func
import pytest
from azure.functions.timer import TimerRequest

from function_app import app
from local.cloud import SUBSCRIPTION, LocalCluster
from pullkeeper.errors import StorageUnavailable
from pullkeeper.fleet import storage
from pullkeeper.fleet.shards import shard_of
from tests.faults.gate import Gates
from tests.world import World

pytestmark = pytest.mark.servers
_FUNCTIONS: Final = {function.get_function_name(): function.get_user_function() for function in app.get_functions()}
_OPERATION: Final = "0" * 32
_CALL: Final = timedelta(seconds=0.3)


_LONGEST: Final = 5.0
"""Seconds. Without the limit a silent endpoint takes 10 at least: the time-out of the first try."""


@pytest.fixture(autouse=True)
def process(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions of the app use the world's services, which reach storage through the gates."""
    world.settings["ONBOARDING_SCOPES"] = f"/subscriptions/{SUBSCRIPTION}"
    for module in ("fleet", "onboarding", "refresh", "schedule", "status"):
        monkeypatch.setattr(f"functions.{module}.services", lambda: world.services)


async def _invoke(name: str, cluster: LocalCluster) -> Any:
    """Call a function as the host does. Returns a route's response."""
    place = {"subscription": cluster.id.subscription, "resourceGroup": cluster.id.resource_group, "name": "aks-1"}
    triggers: dict[str, Any] = {
        "schedule": {"timer": TimerRequest(past_due=False)},
        "refresh": {"message": _message({"shard": shard_of(cluster.id), "reason": "due"})},
        "onboarding": {"message": _message({"operation": _OPERATION})},
        "onboarding_poison": {"message": _message({"operation": _OPERATION})},
        "clusters": {"req": _request("GET", "clusters")},
        "cluster": {"req": _request("GET", "clusters/s/g/n", place)},
        "operations": {"req": _request("GET", "operations")},
        "operation": {"req": _request("GET", "operations/o", {"id": _OPERATION})},
        "refresh_all": {"req": _request("POST", "refresh")},
        "refresh_cluster": {"req": _request("POST", "clusters/s/g/n/refresh", place)},
        "onboard": {"req": _request("POST", "clusters", body={"cluster": str(cluster.id), "hub": "main"})},
        "offboard": {"req": _request("DELETE", "clusters/s/g/n", place)},
    }
    return await _FUNCTIONS[name](**triggers[name])


def _message(body: dict[str, str]) -> func.QueueMessage:
    return func.QueueMessage(id="1", body=json.dumps(body).encode())


def _request(
    method: str, path: str, place: dict[str, str] | None = None, body: dict[str, str] | None = None
) -> func.HttpRequest:
    content = json.dumps(body).encode() if body else b""
    return func.HttpRequest(method, f"http://localhost/api/{path}", route_params=place or {}, body=content)


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
)
_WITHOUT_STORAGE: Final = {"handover", "health", "openapi", "refresh_poison"}
_REPORTS_WHAT_IT_CAN: Final = {"status"}


def test_every_function_that_calls_storage_is_tested_here() -> None:
    tested = {*_TIMER_AND_QUEUES, "refresh", "onboarding_poison", *_ROUTES}
    assert tested | _WITHOUT_STORAGE | _REPORTS_WHAT_IT_CAN == _FUNCTIONS.keys()


@pytest.fixture(params=["silent", "503"])
async def cluster(request: pytest.FixtureRequest, world: World, gates: Gates, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A fresh cluster, whose status nothing can read any more."""
    cluster = await world.join("aks-1")
    await world.tick()
    monkeypatch.setattr(storage, "CALL", _CALL)
    gates.set(request.param)
    return cluster


@pytest.mark.parametrize("name", _TIMER_AND_QUEUES)
async def test_timer_and_queue_functions_fail_in_time(name: str, cluster: LocalCluster) -> None:
    began = time.monotonic()
    with pytest.raises(StorageUnavailable) as raised:
        await _invoke(name, cluster)
    assert time.monotonic() - began < _LONGEST
    assert "az storage account show" in raised.value.remedy


@pytest.mark.parametrize(("name", "event"), [("refresh", "shard.completed"), ("onboarding_poison", "message.poisoned")])
async def test_functions_whose_message_is_done_report_it_in_time(
    world: World, name: str, event: str, cluster: LocalCluster
) -> None:
    """A shard stays due, and an operation stands still: the next tick sends both again."""
    world.events.seen.clear()
    began = time.monotonic()
    await _invoke(name, cluster)
    assert time.monotonic() - began < _LONGEST
    assert [event["category"] for event in world.events.named(event)] == ["storage_unavailable"]


@pytest.mark.parametrize("name", _ROUTES)
async def test_routes_answer_503_with_the_remedy_in_time(name: str, cluster: LocalCluster) -> None:
    began = time.monotonic()
    response = await _invoke(name, cluster)
    assert time.monotonic() - began < _LONGEST
    problem = json.loads(response.get_body())
    assert (response.status_code, problem["category"]) == (503, "storage_unavailable")
    assert "az storage account show" in problem["remedy"]


async def test_a_run_that_cannot_read_the_fleet_is_reported(world: World, cluster: LocalCluster) -> None:
    world.events.seen.clear()
    with pytest.raises(StorageUnavailable):
        await _invoke("schedule", cluster)
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
    response = await _invoke(name, cluster)
    assert response is None or response.status_code < 300
    assert azure_waits
    assert sum(azure_waits) < storage.CALL.total_seconds()
