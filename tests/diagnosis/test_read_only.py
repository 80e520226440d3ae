"""A diagnosis writes nothing, anywhere, whether all is well or not."""

import json
from typing import Any

import pytest
from azure.data.tables.aio import TableServiceClient
from azure.storage.queue.aio import QueueServiceClient

from local.cloud import LocalCluster
from local.hops import HOPS, break_hop
from pullkeeper.diagnosis.report import HopName
from tests.diagnosis.conftest import Doctor
from tests.onboarding.conftest import list_versions
from tests.world import World

pytestmark = pytest.mark.servers
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


async def _describe_storage(world: World) -> dict[str, Any]:
    """Every row with its ETag, and the messages of each queue."""
    found: dict[str, Any] = {}
    async with TableServiceClient.from_connection_string(world.storage) as tables:
        async for table in tables.list_tables():
            async for row in tables.get_table_client(table.name).list_entities():
                key = f"{table.name}/{row['PartitionKey']}/{row['RowKey']}"
                found[key] = json.dumps(dict(row), default=str), row.metadata["etag"]
    async with QueueServiceClient.from_connection_string(world.storage) as queues:
        async for queue in queues.list_queues():
            async with queues.get_queue_client(queue.name) as client:
                found[queue.name] = [message.content for message in await client.peek_messages(32)]
    return found


async def _describe_all(world: World, cluster: LocalCluster) -> Any:
    return await _describe_storage(world), await list_versions(cluster), [*world.cloud.arm.writes]


def _list_changes(cluster: LocalCluster, first: int) -> list[str]:
    """Requests to the cluster that could change something."""
    return [
        f"{request.method} {request.path}"
        for request in cluster.part.journal.requests[first:]
        if not (
            request.method == "GET"
            or (request.method == "POST" and request.path == _REVIEWS)
            or (request.method == "PATCH" and request.query.get("dryRun") == "All")
        )
    ]


async def _examine_and_compare(doctor: Doctor, cluster: LocalCluster, broken: HopName | None = None) -> None:
    before, first = await _describe_all(doctor.world, cluster), len(cluster.part.journal.requests)
    await doctor.examine(cluster)
    assert (broken, _list_changes(cluster, first)) == (broken, [])
    managers = {
        request.query["fieldManager"]
        for request in cluster.part.journal.requests[first:]
        if "fieldManager" in request.query
    }
    assert managers <= {"pullkeeper-diagnosis"}
    assert (broken, await _describe_all(doctor.world, cluster)) == (broken, before)


async def test_a_diagnosis_changes_neither_cluster_nor_azure_nor_storage(doctor: Doctor) -> None:
    cluster = await doctor.onboard()
    await doctor.world.refresh(cluster)
    await _examine_and_compare(doctor, cluster)


async def test_a_diagnosis_of_what_is_broken_changes_nothing(doctor: Doctor) -> None:
    """Above all, it repairs nothing. The hops that are left out keep this test from the cluster, not the diagnosis."""
    cluster = await doctor.onboard()
    for hop in HOPS:
        if hop in {"cluster-state", "api-server", "authentication"}:
            continue
        await doctor.world.refresh(cluster)
        async with break_hop(doctor.world.cloud, cluster, hop):
            await _examine_and_compare(doctor, cluster, hop)
