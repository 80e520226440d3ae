"""The storage account reached as it is in Azure: by the app's identity, without a key."""

from collections.abc import Iterator

import pytest
from azure.identity.aio import ManagedIdentityCredential
from azure.storage.queue import TextBase64DecodePolicy
from azure.storage.queue.aio import QueueServiceClient

from local.azure.entra import ARM, STORAGE, Resource
from local.azurite import Azurite
from local.cloud import GROUP, SUBSCRIPTION
from local.serving import Authority
from pullkeeper.errors import StorageUnavailable
from pullkeeper.fleet.shards import shard_of
from pullkeeper.model import ClusterId
from tests.end_to_end.conftest import Deployed, read_token, until
from tests.world import World

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def storage(authority: Authority) -> Iterator[Azurite]:
    """Bearer tokens go over TLS alone: the SDKs see to that."""
    with Azurite(authority=authority) as azurite:
        yield azurite


@pytest.fixture
def keyless(world: World, storage: Azurite, request: pytest.FixtureRequest) -> World:
    endpoints = storage.endpoints(request.node.nodeid)
    world.settings |= {
        "AzureWebJobsStorage": "",
        "AzureWebJobsStorage__tableServiceUri": endpoints["Table"],
        "AzureWebJobsStorage__queueServiceUri": endpoints["Queue"],
    }
    return world


async def test_fleet_status_and_queue_are_kept_without_a_key(keyless: World) -> None:
    cluster = await keyless.join("aks-1")
    await keyless.services.scheduler.run()
    service = keyless.settings["AzureWebJobsStorage__queueServiceUri"]
    async with (
        ManagedIdentityCredential(client_id=keyless.cloud.app.client_id) as credential,
        QueueServiceClient(service, credential=credential) as queues,
        queues.get_queue_client("refresh", message_decode_policy=TextBase64DecodePolicy()) as queue,
    ):
        [message] = [message async for message in queue.receive_messages()]
    assert shard_of(cluster.id) in message.content
    await keyless.refresh(cluster)
    assert (await keyless.target(cluster)).state(keyless.clock()) == "fresh"
    asked = {seen.query["resource"].rstrip("/") for seen in keyless.cloud.identity_part.journal.requests}
    assert STORAGE in asked


async def test_the_host_runs_on_an_identity_alone(
    keyless: World, storage: Azurite, deployed: Deployed, request: pytest.FixtureRequest
) -> None:
    """With the settings of Microsoft's own samples: the host keeps its timers in blobs."""
    cluster = await keyless.join("aks-1")
    settings = {name: value for name, value in keyless.settings.items() if name.startswith("AzureWebJobsStorage")}
    await deployed.host(
        **settings,
        AzureWebJobsStorage__blobServiceUri=storage.endpoints(request.node.nodeid)["Blob"],
        AzureWebJobsStorage__credential="managedidentity",
        AzureWebJobsStorage__clientId=keyless.cloud.app.client_id,
    )

    async def is_written() -> bool:
        return await read_token(keyless, cluster) is not None

    await until(is_written)


async def test_a_token_for_something_else_opens_nothing(keyless: World) -> None:
    keyless.cloud.entra.resources[STORAGE] = Resource(1, ARM)
    with pytest.raises(StorageUnavailable, match="audience"):
        await keyless.services.fleet.member(ClusterId(SUBSCRIPTION, GROUP, "aks-1"))
