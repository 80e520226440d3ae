"""Queue triggers, as the Storage extension of the real host (5.x) runs them.

What surprises in here is so there too: a failed message is visible again after `visibilityTimeout`, which is 0 by
default; a queue that does not exist is not created; a message that is not in the configured encoding goes to the
poison queue without a call of the function; and a poison queue has no poison queue of its own, so that what fails
there stays invisible for ten minutes and is passed over once it has been taken `maxDequeueCount` times.
"""

import asyncio
import base64
import binascii
import logging
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

import azure.functions.queue
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.storage.queue import QueueMessage
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from local.host.invocation import InvocationError, Invoker
from local.host.registrations import IndexingError, Queue, Registration
from local.host.settings import QueueSettings

_log = logging.getLogger("local.host")
# Fixed in the real host: how long a message is invisible while it is worked on, and so after a host was killed.
INVISIBILITY = timedelta(minutes=10)
_POISON = "-poison"
_QUICKEST_POLL = 0.1


class Storage:
    """The queues of the accounts that the app's settings name, with host.json's encoding on the way in and out."""

    def __init__(self, environment: Mapping[str, str], settings: QueueSettings) -> None:
        self._environment = environment
        self._base64 = settings.base64
        self._services: dict[str, QueueServiceClient] = {}
        self.written: defaultdict[Queue, asyncio.Event] = defaultdict(asyncio.Event)

    def client(self, queue: Queue) -> QueueClient:
        if queue.connection not in self._services:
            found = (self._environment.get(name) for name in (f"AzureWebJobs{queue.connection}", queue.connection))
            connection_string = next((value for value in found if value), None)
            if connection_string is None:
                raise IndexingError(
                    f"Storage account connection string '{queue.connection}' does not exist; "
                    "this host knows connection strings only, no identities"
                )
            self._services[queue.connection] = QueueServiceClient.from_connection_string(connection_string)
        return self._services[queue.connection].get_queue_client(queue.name)

    async def send(self, queue: Queue, bodies: Iterable[bytes]) -> None:
        for body in bodies:
            await self.put(queue, base64.b64encode(body).decode() if self._base64 else body.decode())

    async def put(self, queue: Queue, content: str) -> None:
        """Put `content` on the queue as it is, make the queue if need be, and wake its listener."""
        client = self.client(queue)
        try:
            await client.send_message(content)
        except ResourceNotFoundError:
            with suppress(ResourceExistsError):
                await client.create_queue()
            await client.send_message(content)
        self.written[queue].set()

    def decode(self, content: str) -> bytes | None:
        """The body of a message, or None where it is not in the encoding that host.json names."""
        if not self._base64:
            return content.encode()
        try:
            return base64.b64decode(content, validate=True)
        except binascii.Error:
            return None

    async def close(self) -> None:
        for service in self._services.values():
            await service.close()


class Listener:
    """Feeds one function from its queue until `stopping` is set; then finishes what it has begun."""

    def __init__(
        self,
        function: Registration,
        queue: Queue,
        *,
        storage: Storage,
        settings: QueueSettings,
        invoker: Invoker,
        invisibility: timedelta = INVISIBILITY,
    ) -> None:
        self._function = function
        self._queue = queue
        self._storage = storage
        self._client = storage.client(queue)
        self._settings = settings
        self._invoker = invoker
        self._invisible_for = int(invisibility.total_seconds())
        self._poison = None if queue.name.endswith(_POISON) else Queue(queue.name + _POISON, queue.connection)

    async def run(self, stopping: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            working: set[asyncio.Task[None]] = set()
            idle = 0
            while not stopping.is_set():
                woken = self._storage.written[self._queue]
                woken.clear()
                batch = await self._receive()
                for message in batch:
                    task = group.create_task(self._process(message))
                    working.add(task)
                    task.add_done_callback(working.discard)
                idle = 0 if batch else idle + 1
                if not batch:
                    await _first(self._backoff(idle), stopping, woken)
                while len(working) > self._settings.new_batch_threshold and not stopping.is_set():
                    await _first(None, stopping, *working)

    async def run_by_hand(self, body: bytes) -> None:
        """One call with a message that lies in no queue, as the admin route of the real host makes it."""
        with suppress(InvocationError):
            await self._invoker.invoke(
                self._function,
                azure.functions.queue.QueueMessage(body=body, dequeue_count=0),
                "This function was programmatically called via the host APIs.",
            )

    def _backoff(self, idle: int) -> float:
        """Seconds until the next look: 0.1 first, about doubling, `maxPollingInterval` at most."""
        grown: float = _QUICKEST_POLL * (1 + random.uniform(0.8, 1.2) * (2 ** min(idle - 1, 30) - 1))  # noqa: S311 - jitter
        return min(grown, max(_QUICKEST_POLL, self._settings.max_polling_interval.total_seconds()))

    async def _receive(self) -> list[QueueMessage]:
        pages = self._client.receive_messages(
            messages_per_page=self._settings.batch_size, visibility_timeout=self._invisible_for
        ).by_page()
        try:
            return [message async for message in await anext(pages)]
        except StopAsyncIteration:
            return []
        except ResourceNotFoundError:
            return []  # not there yet: whoever writes to it makes it
        except AzureError as error:
            _log.warning("Queue '%s' cannot be read: %s", self._queue.name, type(error).__name__)
            return []

    async def _process(self, message: QueueMessage) -> None:
        try:
            body = self._storage.decode(message.content)
            taken = message.dequeue_count or 0
            if body is None or taken > self._settings.max_dequeue_count:
                await self._to_poison(message)
            elif await self._invoke(message, body):
                await self._client.delete_message(message.id, message.pop_receipt)
            elif taken >= self._settings.max_dequeue_count:
                await self._to_poison(message)
            elif self._poison is not None:
                await self._client.update_message(
                    message.id,
                    message.pop_receipt,
                    visibility_timeout=int(self._settings.visibility_timeout.total_seconds()),
                )
        except ResourceNotFoundError:
            _log.debug("Message %s of '%s' is gone", message.id, self._queue.name)
        except AzureError as error:
            # It is visible again when its time is up: nothing is lost.
            _log.warning("Message %s of '%s': %s", message.id, self._queue.name, type(error).__name__)

    async def _invoke(self, message: QueueMessage, body: bytes) -> bool:
        argument = azure.functions.queue.QueueMessage(
            id=message.id,
            body=body,
            dequeue_count=message.dequeue_count,
            expiration_time=message.expires_on,
            insertion_time=message.inserted_on,
            time_next_visible=message.next_visible_on,
            pop_receipt=message.pop_receipt,
        )
        renewal = asyncio.create_task(self._keep_invisible(message))
        try:
            await self._invoker.invoke(self._function, argument, f"New queue message detected on '{self._queue.name}'.")
        except InvocationError:
            return False
        finally:
            renewal.cancel()
            await asyncio.wait([renewal])
        return True

    async def _keep_invisible(self, message: QueueMessage) -> None:
        while True:
            await asyncio.sleep(self._invisible_for / 2)
            with suppress(HttpResponseError):
                renewed = await self._client.update_message(
                    message.id, message.pop_receipt, visibility_timeout=self._invisible_for
                )
                message.pop_receipt = renewed.pop_receipt

    async def _to_poison(self, message: QueueMessage) -> None:
        if self._poison is None:
            return
        _log.warning(
            "Message has reached MaxDequeueCount of %d. Moving message to queue '%s'.",
            self._settings.max_dequeue_count,
            self._poison.name,
        )
        await self._storage.put(self._poison, message.content)
        await self._client.delete_message(message.id, message.pop_receipt)


async def _first(seconds: float | None, *what: asyncio.Event | asyncio.Task[Any]) -> None:
    """Wait until one of `what` has happened, or the time is up."""
    tasks = [each for each in what if isinstance(each, asyncio.Task)]
    waits = [asyncio.create_task(each.wait()) for each in what if isinstance(each, asyncio.Event)]
    try:
        await asyncio.wait([*tasks, *waits], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
