"""The app in Microsoft's worker: every function is indexed, and each trigger invoked."""

import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from azure.storage.queue import TextBase64DecodePolicy
from azure.storage.queue.aio import QueueClient

from local.azurite import Azurite
from local.serving import Fault
from pullkeeper.fleet.shards import shard_of
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

SCHEDULE = {"REFRESH_SCHEDULE": "0 */5 * * * *"}
ROUTE = {
    "subscription": "00000000-0000-0000-0000-000000005eed",
    "resourceGroup": "platform",
    "name": "not-in-the-fleet",
}
OPERATION = "0" * 32
OPERATION_MESSAGE = {"body": json.dumps({"operation": OPERATION}), "metadata": {"Id": "1", "DequeueCount": 1}}
REFRESH_MESSAGE = {
    "body": json.dumps({"shard": "00", "reason": "due"}),
    "metadata": {"Id": "1", "DequeueCount": 1},
}


def http(method: str, path: str, **params: str) -> dict[str, Any]:
    return {"http": {"method": method, "url": f"http://localhost/api/{path}", "params": params}}


# What each function does with an empty fleet, in storage that has never been used.
INVOCATIONS: dict[str, tuple[dict[str, Any], int, str]] = {
    "schedule": ({"timer": {"IsPastDue": False, "Schedule": {}, "ScheduleStatus": {}}}, SUCCESS, ""),
    "refresh": ({"queue": REFRESH_MESSAGE}, SUCCESS, ""),
    "refresh_poison": ({"queue": REFRESH_MESSAGE}, SUCCESS, ""),
    "health": (http("GET", "health"), SUCCESS, "200"),
    "refresh_all": (http("POST", "refresh"), SUCCESS, "202"),
    "refresh_cluster": (http("POST", "clusters/s/g/n/refresh", **ROUTE), SUCCESS, "404"),
    "clusters": (http("GET", "clusters"), SUCCESS, "200"),
    "cluster": (http("GET", "clusters/s/g/n", **ROUTE), SUCCESS, "404"),
    "cluster_diagnosis": (http("GET", "clusters/s/g/n/diagnosis", **ROUTE), SUCCESS, "404"),
    "hub_diagnosis": (http("GET", "hubs/none/diagnosis", hub="none"), SUCCESS, "404"),
    "onboard": (http("POST", "clusters"), SUCCESS, "400"),
    "offboard": (http("DELETE", "clusters/s/g/n", **ROUTE), SUCCESS, "403"),
    "operations": (http("GET", "operations"), SUCCESS, "200"),
    "operation": (http("GET", "operations/o", id=OPERATION), SUCCESS, "404"),
    "onboarding": ({"queue": OPERATION_MESSAGE}, FAILURE, "NotInFleet"),
    "onboarding_poison": ({"queue": OPERATION_MESSAGE}, SUCCESS, ""),
    "handover": (http("GET", "handover"), SUCCESS, "502"),
    "openapi": (http("GET", "openapi.json"), SUCCESS, "200"),
    "status": (http("GET", "status"), SUCCESS, "200"),
    "dashboard": (http("GET", "dashboard"), SUCCESS, "200"),
}


@pytest.fixture
async def worker_with_app(worker: Start, azurite: Azurite, request: pytest.FixtureRequest) -> Worker:
    settings = {"AzureWebJobsStorage": azurite.account(request.node.nodeid), **SCHEDULE}
    return await worker(ROOT, settings)


async def test_every_function_is_indexed(worker_with_app: Worker) -> None:
    """Azure reports no more than "0 functions found" otherwise."""
    assert "error" not in worker_with_app.indexed
    assert INVOCATIONS.keys() == worker_with_app.indexed["functions"].keys()


async def test_every_function_is_indexed_without_any_setting(worker: Start) -> None:
    """A wrong setting must not raise at import, and every route says what is missing."""
    bare = await worker(ROOT)
    assert INVOCATIONS.keys() == bare.indexed["functions"].keys()
    for name in ("clusters", "refresh_all", "onboard", "handover"):
        response = (await bare.invoke(name, **INVOCATIONS[name][0]))["return_value"]["http"]
        assert (response["status_code"], "AzureWebJobsStorage__tableServiceUri" in response["body"]["bytes"]) == (
            "503",
            True,
        )
    health = (await bare.invoke("health", **INVOCATIONS["health"][0]))["return_value"]["http"]
    assert (health["status_code"], json.loads(health["body"]["bytes"])) == ("503", {"status": "error"})
    status = (await bare.invoke("status", **INVOCATIONS["status"][0]))["return_value"]["http"]
    assert status["status_code"] == "200"
    assert "REFRESH_SCHEDULE" in {problem["setting"] for problem in json.loads(status["body"]["bytes"])["problems"]}


@pytest.mark.parametrize("name", INVOCATIONS)
async def test_each_trigger_takes_what_the_host_sends(worker_with_app: Worker, name: str) -> None:
    trigger, status, expected = INVOCATIONS[name]
    response = await worker_with_app.invoke(name, **trigger)
    assert response["result"]["status"] == status, response
    if status == FAILURE:
        assert response["result"]["exception"]["message"].startswith(f"{expected}: ")
    elif expected:
        assert response["return_value"]["http"]["status_code"] == expected


@pytest.mark.parametrize(
    ("query", "passed_on", "fault"),
    [
        ("dryRun=", {}, "dryRun: empty"),
        ("dryRun", {}, "dryRun: empty"),
        ("dryRun=&dryRun=true", {"dryRun": "true"}, "dryRun: repeated"),
        ("dryRun=true&DRYRUN=true", {"dryRun": "true,true"}, "DRYRUN: unknown"),
    ],
)
async def test_a_query_that_the_host_changes_never_offboards(
    worker_with_app: Worker, query: str, passed_on: dict[str, str], fault: str
) -> None:
    """passed_on: what the real host makes of the query, as recorded."""
    request = {"method": "DELETE", "url": f"http://localhost/api/clusters/s/g/n?{query}", "params": ROUTE}
    response = (await worker_with_app.invoke("offboard", http={**request, "query": passed_on}))["return_value"]["http"]
    assert response["status_code"] == "400"
    assert fault in json.loads(response["body"]["bytes"])["detail"]


async def test_timer_and_queue_refresh_a_secret(worker: Start, world: World) -> None:
    """The timer queues the cluster, and its message writes a token."""
    cluster = await world.join("aks-1")
    worker_with_app = await worker(ROOT, world.cloud.environment(world.storage))
    scheduled = await worker_with_app.invoke("schedule", **INVOCATIONS["schedule"][0])
    assert scheduled["result"]["status"] == SUCCESS, scheduled
    async with QueueClient.from_connection_string(
        world.storage, "refresh", message_decode_policy=TextBase64DecodePolicy()
    ) as queue:
        (message,) = [message async for message in queue.receive_messages()]
    metadata = {"Id": message.id, "DequeueCount": message.dequeue_count, "PopReceipt": message.pop_receipt}
    refreshed = await worker_with_app.invoke("refresh", queue={"body": message.content, "metadata": metadata})
    assert refreshed["result"]["status"] == SUCCESS, refreshed
    token = await world.read_token(cluster)
    assert (await world.target(cluster)).state(world.clock()) == "fresh"
    assert token not in worker_with_app.log + json.dumps([scheduled, refreshed, message.content])


async def test_only_the_apps_own_records_reach_the_host(worker: Start, world: World) -> None:
    """One for each target, run and mint, and `fleet.status`; also where calls fail and are tried again."""
    names = [f"aks-{number}" for number in range(3)]
    clusters = [await world.join(name) for name in names]
    clusters[1].part.faults.add(Fault(path="/secrets/", status=500))
    world.cloud.google_part.faults.add(Fault(path="/v1/token$", status=503, times=1))
    worker_with_app = await worker(ROOT, {**world.cloud.environment(world.storage), **SCHEDULE})
    for cluster in clusters:
        body = json.dumps({"shard": shard_of(cluster.id), "cluster": str(cluster.id), "reason": "manual"})
        await worker_with_app.invoke("refresh", queue={"body": body, "metadata": {"Id": "1", "DequeueCount": 1}})
    # Microsoft's worker writes two records of its own at its start.
    records = [record for record in worker_with_app.records() if record[0] != "azure.functions"]

    assert {logger for logger, _ in records} == {"pullkeeper"}
    events = Counter(message.partition(" ")[0] for _, message in records)
    # `fleet.status` of every target, because none has been reported in the last hour.
    reports = {"fleet.status": 3, "shard.completed": 3}
    assert events == {"token.minted": 1, "secret.refreshed": 2, "secret.refresh_failed": 1, **reports}
    assert sum(len(message) for _, message in records) < 10 * 1000
