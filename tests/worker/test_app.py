"""Our own app, as Microsoft's worker sees it: all of it is indexed, and each trigger invoked."""

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from azure.storage.queue import TextBase64DecodePolicy
from azure.storage.queue.aio import QueueClient

from local.azurite import Azurite
from tests.worker.conftest import FAILURE, SUCCESS, Worker
from tests.world import World

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(
        sys.version_info < (3, 13), reason="Microsoft publishes the worker's library for Python 3.13 and later only"
    ),
]
Start = Callable[..., Awaitable[Worker]]
ROOT = Path(__file__).parents[2]

PLACE = {
    "subscription": "00000000-0000-0000-0000-000000005eed",
    "resourceGroup": "platform",
    "name": "not-in-the-fleet",
}
CLUSTER = (
    f"/subscriptions/{PLACE['subscription']}/resourceGroups/{PLACE['resourceGroup']}"
    f"/providers/Microsoft.ContainerService/managedClusters/{PLACE['name']}"
)
OPERATION = "0" * 32
BEGUN = {"body": json.dumps({"operation": OPERATION}), "metadata": {"Id": "1", "DequeueCount": 1}}
QUEUED = {"body": json.dumps({"cluster": CLUSTER, "reason": "due"}), "metadata": {"Id": "1", "DequeueCount": 1}}


def http(method: str, path: str, **params: str) -> dict[str, Any]:
    return {"http": {"method": method, "url": f"http://localhost/api/{path}", "params": params}}


# What each function does with a fleet of nobody, in storage that has never been used.
INVOCATIONS: dict[str, tuple[dict[str, Any], int, str]] = {
    "schedule": ({"timer": {"IsPastDue": False, "Schedule": {}, "ScheduleStatus": {}}}, SUCCESS, ""),
    "refresh": ({"queue": QUEUED}, FAILURE, "NotInFleet"),
    "refresh_poison": ({"queue": QUEUED}, SUCCESS, ""),
    "health": (http("GET", "health"), SUCCESS, "200"),
    "refresh_all": (http("POST", "refresh"), SUCCESS, "202"),
    "refresh_cluster": (http("POST", "clusters/s/g/n/refresh", **PLACE), SUCCESS, "404"),
    "clusters": (http("GET", "clusters"), SUCCESS, "200"),
    "cluster": (http("GET", "clusters/s/g/n", **PLACE), SUCCESS, "404"),
    "onboard": (http("POST", "clusters"), SUCCESS, "400"),
    "offboard": (http("DELETE", "clusters/s/g/n", **PLACE), SUCCESS, "403"),
    "operation": (http("GET", "operations/o", id=OPERATION), SUCCESS, "404"),
    "onboarding": ({"queue": BEGUN}, FAILURE, "NotInFleet"),
    "onboarding_poison": ({"queue": BEGUN}, SUCCESS, ""),
    "handover": (http("GET", "handover"), SUCCESS, "502"),
    "openapi": (http("GET", "openapi.json"), SUCCESS, "200"),
}


@pytest.fixture
async def running(worker: Start, azurite: Azurite, request: pytest.FixtureRequest) -> Worker:
    return await worker(ROOT, {"AzureWebJobsStorage": azurite.account(request.node.nodeid)})


async def test_all_of_it_is_indexed(running: Worker) -> None:
    """Azure says no more than «0 functions found» when it is not."""
    assert "error" not in running.indexed
    assert INVOCATIONS.keys() == running.indexed["functions"].keys()


@pytest.mark.parametrize("name", INVOCATIONS)
async def test_each_trigger_takes_what_the_host_sends(running: Worker, name: str) -> None:
    trigger, status, answer = INVOCATIONS[name]
    response = await running.invoke(name, **trigger)
    assert response["result"]["status"] == status, response
    if status == FAILURE:
        assert response["result"]["exception"]["message"].startswith(f"{answer}: ")
    elif answer:
        assert response["return_value"]["http"]["status_code"] == answer


async def test_a_secret_gets_there_by_way_of_timer_and_queue(worker: Start, world: World) -> None:
    """The whole way: the timer's run puts the cluster on the queue, and its message writes a token that pulls."""
    cluster = await world.join("aks-1")
    running = await worker(ROOT, world.cloud.environment(world.storage))
    scheduled = await running.invoke("schedule", **INVOCATIONS["schedule"][0])
    assert scheduled["result"]["status"] == SUCCESS, scheduled
    async with QueueClient.from_connection_string(
        world.storage, "refresh", message_decode_policy=TextBase64DecodePolicy()
    ) as queue:
        (message,) = [message async for message in queue.receive_messages()]
    metadata = {"Id": message.id, "DequeueCount": message.dequeue_count, "PopReceipt": message.pop_receipt}
    refreshed = await running.invoke("refresh", queue={"body": message.content, "metadata": metadata})
    assert refreshed["result"]["status"] == SUCCESS, refreshed
    token = await world.read_token(cluster)
    assert (await world.target(cluster)).state(world.clock()) == "fresh"
    assert token not in running.log + json.dumps([scheduled, refreshed, message.content])
