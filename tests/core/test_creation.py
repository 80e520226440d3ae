"""Queues and tables are created when the app starts to work, and those that cannot be are reported."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from azure.data.tables.aio import TableServiceClient
from azure.storage.queue.aio import QueueServiceClient

from local.azurite import Azurite
from pullkeeper.errors import StorageUnavailable
from pullkeeper.fleet import storage
from pullkeeper.fleet.creation import QUEUES, TABLES, StorageObjects
from pullkeeper.fleet.queues import Queue
from pullkeeper.fleet.shard_table import Shards

# azure-storage-queue, where it reads an error's body, on Python 3.12 and later.
pytestmark = pytest.mark.filterwarnings("ignore:Testing an element's truth value:DeprecationWarning")
_DENIED: Final = b"<Error><Code>AuthorizationPermissionMismatch</Code><Message>denied</Message></Error>"


class Account:
    """A storage account whose caller may use, but not create. existing: names of its queues and tables."""

    def __init__(self) -> None:
        self.existing = {*QUEUES, *TABLES}
        self.refusal = 403
        self.is_silent = False
        self.requests: list[str] = []

    async def serve(self, request: web.Request) -> web.Response:
        self.requests.append(f"{request.method} {request.path}")
        if self.is_silent:
            await asyncio.sleep(20)
        name = request.path.strip("/").partition("(")[0]
        if request.method != "GET":
            return web.Response(status=self.refusal, body=_DENIED, content_type="application/xml")
        if name not in self.existing:
            return web.Response(status=404, headers={"x-ms-error-code": "ResourceNotFound"})
        headers = {"x-ms-approximate-messages-count": "0"}
        return web.json_response({"value": []}, headers=headers) if name in TABLES else web.Response(headers=headers)


@pytest.fixture
async def account() -> Account:
    return Account()


Clients = tuple[TableServiceClient, QueueServiceClient]


@pytest.fixture
async def clients(account: Account) -> AsyncIterator[Clients]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", account.serve)
    async with TestServer(app) as server:
        url = str(server.make_url("/"))
        services = "".join(f";{service}Endpoint={url}" for service in ("Queue", "Table"))
        connection = f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YQ=={services}"
        async with (
            TableServiceClient.from_connection_string(connection, retry_total=0) as tables,
            QueueServiceClient.from_connection_string(connection, retry_total=0) as queues,
        ):
            yield tables, queues


@pytest.fixture
async def objects(clients: Clients) -> StorageObjects:
    return StorageObjects(*clients)


async def test_without_the_right_to_create_what_exists_is_no_problem(objects: StorageObjects) -> None:
    await objects.create()

    assert objects.problems == ()


@pytest.mark.parametrize(("name", "kind"), [("refresh-poison", "queue"), ("operations", "table")])
async def test_without_the_right_to_create_what_is_missing_is_a_warning(
    account: Account, objects: StorageObjects, name: str, kind: str
) -> None:
    account.existing.remove(name)
    await objects.create()

    (problem,) = objects.problems
    assert problem.severity == "warning"
    assert f"the {kind} {name} can be neither created nor read" in problem.detail
    assert f"az storage {kind} create --name {name}" in problem.remedy
    assert f"the role Storage {kind.title()} Data Contributor" in problem.remedy


async def test_without_the_right_to_create_the_app_uses_what_exists(account: Account, clients: Clients) -> None:
    tables, queues = clients

    queue = Queue(queues, "refresh")
    assert [await queue.depth(), await queue.depth()] == [0, 0]
    assert (await Shards(tables).totals()).shards == ()
    assert account.requests.count("PUT /refresh") == 1, "creation was denied, and is not tried at each use"


async def test_an_account_that_does_not_respond_is_given_up(
    account: Account, objects: StorageObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "CALL", timedelta(seconds=0.2))
    account.is_silent = True
    async with asyncio.timeout(10):
        await objects.create()
    assert {problem.detail.rpartition(" ")[2] for problem in objects.problems} == {"TimeoutError"}


@pytest.mark.parametrize("status", [400, 429, 503])
async def test_a_creation_that_fails_for_another_reason_is_tried_again(
    account: Account, clients: Clients, status: int
) -> None:
    """It may be missing."""
    tables, queues = clients
    account.refusal = status
    queue, shards = Queue(queues, "refresh"), Shards(tables)
    for _ in range(2):
        for call in (queue.depth, shards.totals):
            with pytest.raises(StorageUnavailable) as raised:
                await call()
            assert raised.value.__cause__ is None, "the SDK's error quotes the response"
    assert account.requests.count("PUT /refresh") == 2


async def test_a_complete_account_is_not_asked_again(account: Account, objects: StorageObjects) -> None:
    account.existing.remove("refresh-poison")
    await objects.create()
    account.existing.add("refresh-poison")
    await objects.create()
    asked = len(account.requests)
    await objects.create()

    assert objects.problems == ()
    assert len(account.requests) == asked


async def test_an_account_that_cannot_be_reached_does_not_raise() -> None:
    nowhere = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YQ==" + "".join(
        f";{service}Endpoint=http://127.0.0.1:9/a" for service in ("Queue", "Table")
    )
    async with (
        TableServiceClient.from_connection_string(nowhere, retry_total=0) as tables,
        QueueServiceClient.from_connection_string(nowhere, retry_total=0) as queues,
    ):
        objects = StorageObjects(tables, queues)
        await objects.create()

    assert len(objects.problems) == len(QUEUES) + len(TABLES)


@pytest.mark.servers
async def test_everything_is_created_in_an_empty_account(azurite: Azurite, request: pytest.FixtureRequest) -> None:
    connection = azurite.account(request.node.nodeid)
    async with (
        TableServiceClient.from_connection_string(connection) as tables,
        QueueServiceClient.from_connection_string(connection) as queues,
    ):
        objects = StorageObjects(tables, queues)
        await objects.create()
        assert {queue.name async for queue in queues.list_queues()} == {*QUEUES}
        assert {table.name async for table in tables.list_tables()} == {*TABLES}
        next_process = StorageObjects(tables, queues)
        await next_process.create()
    assert (objects.problems, next_process.problems) == ((), ())
