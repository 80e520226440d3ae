"""Queue triggers against Azurite: what happens to a message."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import web
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from local.host.storage import StorageRefusedError
from local.serving import Fault, Faults, Journal, Server
from tests.local.host.conftest import Hosted, hosting, until

pytestmark = pytest.mark.servers
Start = Callable[..., Awaitable[Hosted]]
Write = Callable[..., Path]


class Account:
    """The storage account that the hosted app works on, seen from outside."""

    def __init__(self, connection_string: str, service: QueueServiceClient) -> None:
        self.environment = {"AzureWebJobsStorage": connection_string}
        self._service = service

    async def queue(self, name: str) -> QueueClient:
        client = self._service.get_queue_client(name)
        with suppress(ResourceExistsError):
            await client.create_queue()
        return client

    async def put(self, name: str, body: str) -> None:
        await (await self.queue(name)).send_message(base64.b64encode(body.encode()).decode())

    async def left(self, name: str) -> int:
        """How many messages there are, the invisible ones included."""
        return (await (await self.queue(name)).get_queue_properties()).approximate_message_count or 0

    async def until_left(self, name: str, count: int) -> None:
        """Wait until there are so many messages; fail if it takes long."""
        async with asyncio.timeout(20):
            while await self.left(name) != count:  # noqa: ASYNC110 - the storage account has no event
                await asyncio.sleep(0.1)


@pytest.fixture
async def account(storage: str) -> AsyncIterator[Account]:
    async with QueueServiceClient.from_connection_string(storage) as service:
        yield Account(storage, service)


RECORDING = """
@app.queue_trigger(arg_name="message", queue_name="jobs", connection="AzureWebJobsStorage")
async def job(message: func.QueueMessage) -> None:
    seen.append((message.get_body().decode(), message.dequeue_count))
    if b"fail" in message.get_body():
        raise RuntimeError("no")

poisoned = []

@app.queue_trigger(arg_name="message", queue_name="jobs-poison", connection="AzureWebJobsStorage")
async def poison(message: func.QueueMessage) -> None:
    poisoned.append((message.get_body().decode(), message.dequeue_count))
"""


async def test_a_failing_message_goes_to_poison_after_five_tries_at_once(
    write_app: Write, hosted: Start, account: Account
) -> None:
    """At once, because visibilityTimeout is 0 by default: a short outage is enough."""
    await account.put("jobs", "fail")
    host = await hosted(write_app(RECORDING), account.environment)
    await until(lambda: host.module.poisoned)
    assert host.seen == [("fail", attempt) for attempt in (1, 2, 3, 4, 5)]
    assert host.module.poisoned == [("fail", 1)]
    await account.until_left("jobs-poison", 0)
    assert await account.left("jobs") == 0


async def test_visibility_timeout_spaces_the_tries(write_app: Write, hosted: Start, account: Account) -> None:
    queues = {"visibilityTimeout": "00:00:01", "maxDequeueCount": 3}
    code = RECORDING.replace("seen.append((", "seen.append((asyncio.get_running_loop().time(), ")
    await account.put("jobs", "fail")
    host = await hosted(write_app(code, queues=queues), account.environment)
    await until(lambda: host.module.poisoned)
    moments = [moment for moment, _, _ in host.seen]
    assert len(moments) == 3
    assert all(later - earlier >= 0.9 for earlier, later in pairwise(moments))


@pytest.mark.parametrize("content", ["not base64!", base64.b64encode(b"\xff\xfe").decode()], ids=["encoding", "UTF-8"])
async def test_what_is_not_base64_of_text_goes_to_poison_without_a_call(
    write_app: Write, hosted: Start, account: Account, content: str
) -> None:
    """And there the poison function does not get it either: it stays until it expires."""
    await (await account.queue("jobs")).send_message(content)
    host = await hosted(write_app(RECORDING), account.environment)
    await account.until_left("jobs", 0)
    await account.put("jobs-poison", "later")
    await until(lambda: host.module.poisoned == [("later", 1)])
    await account.until_left("jobs-poison", 1)
    assert (host.seen, await account.left("jobs")) == ([], 0)


async def test_what_fails_in_a_poison_queue_stays_hidden(write_app: Write, hosted: Start, account: Account) -> None:
    """A poison queue has no poison queue; given back at once, the message would go round without end."""
    code = RECORDING.replace('queue_name="jobs"', 'queue_name="other-poison"')
    await account.put("other-poison", "fail")
    host = await hosted(write_app(code), account.environment)
    await until(lambda: host.seen)
    await account.put("other-poison", "later")
    await until(lambda: host.seen == [("fail", 1), ("later", 1)])
    await account.until_left("other-poison", 1)


async def test_a_queue_that_does_not_exist_is_not_created_and_each_poll_warns(
    write_app: Write, hosted: Start, account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    host = await hosted(write_app(RECORDING), account.environment)
    await until(lambda: caplog.text.count("Queue 'jobs' cannot be read: ResourceNotFoundError") > 1)
    async with QueueClient.from_connection_string(account.environment["AzureWebJobsStorage"], "jobs") as queue:
        with pytest.raises(ResourceNotFoundError):
            await queue.get_queue_properties()
    await account.put("jobs", "late")
    await until(lambda: host.seen == [("late", 1)])


HOLDING = """
gate = asyncio.Event()

@app.queue_trigger(arg_name="message", queue_name="jobs", connection="AzureWebJobsStorage")
async def job(message: func.QueueMessage) -> None:
    seen.append(message.get_body().decode())
    await gate.wait()
"""


async def test_in_flight_is_batch_size_and_threshold_at_most(write_app: Write, hosted: Start, account: Account) -> None:
    """A new batch is fetched when no more than the threshold are under way."""
    for n in range(12):
        await account.put("jobs", str(n))
    app = write_app(HOLDING, queues={"batchSize": 4, "newBatchThreshold": 3})
    host = await hosted(app, account.environment)
    await until(lambda: len(host.seen) == 4)
    await asyncio.sleep(0.5)
    assert len(host.seen) == 4
    host.module.gate.set()
    await until(lambda: len(host.seen) == 12)
    assert sorted(host.seen, key=int) == [str(n) for n in range(12)]


async def test_a_long_run_keeps_its_message(write_app: Write, hosted: Start, account: Account) -> None:
    """The message stays invisible while the function runs."""
    await account.put("jobs", "long")
    host = await hosted(write_app(HOLDING), account.environment, invisibility=timedelta(seconds=2))
    await until(lambda: host.seen)
    await asyncio.sleep(3.5)
    assert host.seen == ["long"]
    host.module.gate.set()
    await account.until_left("jobs", 0)


async def test_queue_functions_have_their_grace_period_when_the_host_stops(
    write_app: Write,
    account: Account,
    fresh_imports: None,  # noqa: ARG001 - an effect
) -> None:
    await account.put("jobs", "held")
    async with hosting(write_app(HOLDING), account.environment, grace=timedelta(seconds=0.5)) as host:
        await until(lambda: host.seen)
        started = asyncio.get_running_loop().time()
    assert 0.5 <= asyncio.get_running_loop().time() - started < 5
    assert await account.left("jobs") == 1


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"QueueEndpoint": "http://127.0.0.1:9/none"}, "Cannot connect"),
        ({"AccountKey": base64.b64encode(b"another key").decode()}, "ClientAuthenticationError"),
    ],
    ids=["no connection", "403"],
)
async def test_storage_that_refuses_ends_the_host(
    write_app: Write, hosted: Start, storage: str, fields: dict[str, str], reason: str
) -> None:
    """Without a connection after its retries, which last 26 s in the real host."""
    environment = {"AzureWebJobsStorage": _with(storage, **fields)}
    host = await hosted(write_app(RECORDING), environment, refusal_patience=timedelta(seconds=1))
    with pytest.raises(ExceptionGroup) as failed:
        await asyncio.wait_for(host.host.failure(), 20)
    assert failed.group_contains(StorageRefusedError, match=reason)


@pytest.mark.parametrize("status", [500, 503])
async def test_a_server_error_of_storage_ends_nothing(
    write_app: Write, hosted: Start, storage: str, status: int
) -> None:
    """The host polls on."""
    faults, journal = Faults(), Journal()
    faults.add(Fault(status=status))
    server = Server(web.Application(middlewares=[journal.middleware, faults.middleware]), authority=None)
    await server.start()
    environment = {"AzureWebJobsStorage": _with(storage, QueueEndpoint=server.url)}
    host = await hosted(write_app(RECORDING), environment, refusal_patience=timedelta(seconds=0.5))
    await until(lambda: journal.count() > 2 * 2 * 4)  # two queues, two polls, and the retries of each
    assert (await host.get("/"))[0] == 200
    await host.host.stop()
    await server.stop()


def _with(connection_string: str, **fields: str) -> str:
    found = dict(field.split("=", 1) for field in connection_string.split(";")) | fields
    return ";".join(f"{name}={value}" for name, value in found.items())
