"""Queue triggers against Azurite: what happens to a message, in every case that the platform knows."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from tests.local.host.conftest import KEYS, Hosted, until

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

    async def bodies(self, name: str) -> list[str]:
        """The messages as they lie there, those that are visible."""
        return [message.content for message in await (await self.queue(name)).peek_messages(max_messages=32)]


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


async def test_a_message_is_handed_over_once_and_deleted(write_app: Write, hosted: Start, account: Account) -> None:
    await account.put("jobs", "välkommen")
    host = await hosted(write_app(RECORDING), account.environment)
    await until(lambda: host.seen)
    await asyncio.sleep(0.5)
    assert host.seen == [("välkommen", 1)]
    assert await account.left("jobs") == 0


async def test_a_message_says_where_it_comes_from(write_app: Write, hosted: Start, account: Account) -> None:
    code = """
    @app.queue_trigger(arg_name="message", queue_name="jobs", connection="Storage")
    async def job(message: func.QueueMessage) -> None:
        seen.append(message)
    """
    queue = await account.queue("jobs")
    sent = await queue.send_message(base64.b64encode(b"{}").decode())
    # A connection is looked up with the platform's prefix first.
    host = await hosted(write_app(code), {"AzureWebJobsStorage": account.environment["AzureWebJobsStorage"]})
    await until(lambda: host.seen)
    (message,) = host.seen
    assert message.id == sent.id
    assert message.insertion_time == sent.inserted_on
    assert message.expiration_time == sent.expires_on
    assert message.time_next_visible - sent.inserted_on > timedelta(minutes=9)
    assert message.pop_receipt
    assert message.get_json() == {}


async def test_a_failing_message_goes_to_poison_after_five_tries_at_once(
    write_app: Write, hosted: Start, account: Account
) -> None:
    """At once, because visibilityTimeout is 0 by default: a short outage is enough."""
    await account.put("jobs", "fail")
    host = await hosted(write_app(RECORDING), account.environment)
    await until(lambda: host.module.poisoned)
    assert host.seen == [("fail", attempt) for attempt in (1, 2, 3, 4, 5)]
    assert host.module.poisoned == [("fail", 1)]
    await asyncio.sleep(0.3)
    assert (await account.left("jobs"), await account.left("jobs-poison")) == (0, 0)


async def test_visibility_timeout_spaces_the_tries(write_app: Write, hosted: Start, account: Account) -> None:
    queues = {"visibilityTimeout": "00:00:01", "maxDequeueCount": 3}
    code = RECORDING.replace("seen.append((", "seen.append((asyncio.get_running_loop().time(), ")
    await account.put("jobs", "fail")
    host = await hosted(write_app(code, queues=queues), account.environment)
    await until(lambda: host.module.poisoned)
    moments = [moment for moment, _, _ in host.seen]
    assert len(moments) == 3
    assert all(later - earlier >= 0.9 for earlier, later in pairwise(moments))


async def test_the_environment_stands_over_host_json(write_app: Write, hosted: Start, account: Account) -> None:
    over = {"AzureFunctionsJobHost__extensions__queues__maxDequeueCount": "2"}
    await account.put("jobs", "fail")
    host = await hosted(write_app(RECORDING), account.environment | over)
    await until(lambda: host.module.poisoned)
    assert len(host.seen) == 2


async def test_another_encoding_goes_to_poison_without_a_call(
    write_app: Write, hosted: Start, account: Account
) -> None:
    """And there the poison function does not see it either: it lies, for nobody, until it expires."""
    await (await account.queue("jobs")).send_message("not base64!")
    host = await hosted(write_app(RECORDING), account.environment)
    for _ in range(100):
        if not await account.left("jobs"):
            break
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)
    assert (host.seen, host.module.poisoned) == ([], [])
    assert (await account.left("jobs"), await account.left("jobs-poison")) == (0, 1)


async def test_without_encoding_the_text_is_the_body(write_app: Write, hosted: Start, account: Account) -> None:
    await (await account.queue("jobs")).send_message("plain <text> & more")
    host = await hosted(write_app(RECORDING, queues={"messageEncoding": "none"}), account.environment)
    await until(lambda: host.seen)
    assert host.seen == [("plain <text> & more", 1)]


async def test_what_fails_in_a_poison_queue_stays_hidden(write_app: Write, hosted: Start, account: Account) -> None:
    """A poison queue has no poison queue; given back at once, the message would go round without end."""
    code = RECORDING.replace('queue_name="jobs"', 'queue_name="other-poison"')
    await account.put("other-poison", "fail")
    host = await hosted(write_app(code), account.environment)
    await until(lambda: host.seen)
    await asyncio.sleep(0.7)
    assert host.seen == [("fail", 1)]
    assert await account.left("other-poison") == 1


async def test_a_queue_that_is_not_there_is_neither_made_nor_missed(
    write_app: Write, hosted: Start, account: Account
) -> None:
    host = await hosted(write_app(RECORDING), account.environment)
    await asyncio.sleep(0.5)
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
    """The message's time is extended while the function runs: nobody else is given it."""
    await account.put("jobs", "long")
    host = await hosted(write_app(HOLDING), account.environment, invisibility=timedelta(seconds=2))
    await until(lambda: host.seen)
    await asyncio.sleep(3.5)
    assert host.seen == ["long"]
    host.module.gate.set()
    for _ in range(50):
        if not await account.left("jobs"):
            break
        await asyncio.sleep(0.1)
    assert await account.left("jobs") == 0


async def test_a_run_that_is_broken_off_loses_no_message(write_app: Write, hosted: Start, account: Account) -> None:
    await account.put("jobs", "held")
    app = write_app(HOLDING, functionTimeout="00:00:00.3", queues={"maxDequeueCount": 3})
    host = await hosted(app, account.environment)
    await until(lambda: len(host.seen) == 3)
    await asyncio.sleep(0.7)
    assert await account.bodies("jobs-poison") == [base64.b64encode(b"held").decode()]


OUTPUTS = """
@app.route("one", auth_level=func.AuthLevel.ANONYMOUS)
@app.queue_output(arg_name="out", queue_name="%TARGET%", connection="AzureWebJobsStorage")
async def one(req: func.HttpRequest, out: func.Out[str]) -> func.HttpResponse:
    out.set("from out")
    return func.HttpResponse(status_code=202)

@app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *", run_on_startup=True)
@app.queue_output(arg_name="$return", queue_name="%TARGET%", connection="AzureWebJobsStorage")
async def several(timer: func.TimerRequest) -> list:
    return ["a", func.QueueMessage(body="b")]

@app.queue_trigger(arg_name="message", queue_name="%TARGET%", connection="AzureWebJobsStorage")
async def job(message: func.QueueMessage) -> None:
    seen.append(message.get_body().decode())
"""


async def test_outputs_arrive_at_once_in_queues_made_for_them(
    write_app: Write, hosted: Start, account: Account
) -> None:
    """Within one host a listener is told of what is written to its queue; it does not wait for its next look."""
    app = write_app(OUTPUTS, queues={"maxPollingInterval": "00:10:00"})
    host = await hosted(app, account.environment | {"TARGET": "Jobs"})
    await until(lambda: sorted(host.seen) == ["a", "b"], within=5)
    assert await host.get("/api/one") == (202, "")
    await until(lambda: sorted(host.seen) == ["a", "b", "from out"], within=5)


async def test_the_master_key_hands_a_message_over_by_hand(write_app: Write, hosted: Start, account: Account) -> None:
    host = await hosted(write_app(RECORDING), account.environment)
    headers = {"x-functions-key": KEYS.master}
    await host.request("POST", "/admin/functions/job", headers=headers, json={"input": '{"a": 1}'})
    await host.request("POST", "/admin/functions/job", headers=headers, json={"input": {"a": 2}})
    await until(lambda: host.seen == [('{"a": 1}', 0), ('{"a": 2}', 0)])


SERVING = (
    RECORDING
    + """
@app.route("open", auth_level=func.AuthLevel.ANONYMOUS)
async def anyone(req: func.HttpRequest) -> str:
    return "come in"
"""
)


async def test_storage_out_of_reach_ends_nothing(write_app: Write, hosted: Start, storage: str) -> None:
    """The host goes on looking, and serving."""
    fields = dict(field.split("=", 1) for field in storage.split(";")) | {"QueueEndpoint": "http://127.0.0.1:9/nobody"}
    nowhere = ";".join(f"{name}={value}" for name, value in fields.items())
    host = await hosted(write_app(SERVING), {"AzureWebJobsStorage": nowhere})
    await asyncio.sleep(0.5)
    assert await host.get("/api/open") == (200, "come in")
