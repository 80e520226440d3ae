"""Queue triggers, as the Storage extension of the real host (5.3.10) runs them.

A failed message is visible again after `visibilityTimeout`, which is 0 by default. A queue that does not exist is not
created. A message that is not in the configured encoding is moved to the poison queue without a call of the function.
A poison queue has no poison queue of its own: what fails there stays invisible for ten minutes and is ignored after
`maxDequeueCount` tries.
"""

import asyncio
import base64
import binascii
import logging
import random
from contextlib import suppress
from datetime import timedelta

import azure.functions.queue
from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.queue import QueueMessage
from azure.storage.queue.aio import QueueClient

from local.host.invocation import InvocationError, Invoker
from local.host.registrations import QueueTrigger, Registration
from local.host.settings import QueueSettings
from local.host.storage import Storage, refuse

_log = logging.getLogger("local.host")
INVISIBILITY = timedelta(minutes=10)
"""How long the real host hides a message while a function has it, and so for how long after a crash."""
_POISON = "-poison"
_QUICKEST_POLL = 0.1


class Listener:
    """Feeds one function from its queue until `stopping` is set; then finishes the messages it has."""

    def __init__(
        self,
        function: Registration,
        trigger: QueueTrigger,
        storage: Storage,
        settings: QueueSettings,
        invoker: Invoker,
        *,
        invisibility: timedelta = INVISIBILITY,
    ) -> None:
        self._function = function
        self._name = trigger.queue
        self._queue = storage.queue(trigger.queue, trigger.connection)
        self._poison: QueueClient | None = None
        if not trigger.queue.endswith(_POISON):
            self._poison = storage.queue(trigger.queue + _POISON, trigger.connection)
        self._settings = settings
        self._invoker = invoker
        self._invisible_for = int(invisibility.total_seconds())

    async def run(self, stopping: asyncio.Event) -> None:
        """Raises StorageRefusedError, in a group."""
        async with asyncio.TaskGroup() as group:
            stopped = asyncio.create_task(stopping.wait())
            working: set[asyncio.Task[None]] = set()
            idle = 0
            while not stopping.is_set():
                batch = await self._receive()
                for message in batch:
                    task = group.create_task(self._process(message))
                    working.add(task)
                    task.add_done_callback(working.discard)
                idle = 0 if batch else idle + 1
                if not batch:
                    await asyncio.wait([stopped], timeout=self._backoff(idle))
                while len(working) > self._settings.new_batch_threshold and not stopping.is_set():
                    await asyncio.wait([stopped, *working], return_when=asyncio.FIRST_COMPLETED)

    async def run_by_hand(self, body: str | None) -> None:
        """Call the function with a message that is in no queue. Without a body the call fails, in the log alone."""
        if body is None:
            _log.error("Executed 'Functions.%s' (Failed: no input)", self._function.name)
            return
        with suppress(InvocationError):
            message = azure.functions.queue.QueueMessage(body=body.encode(), dequeue_count=0)
            await self._invoker.invoke(self._function, message, "admin")

    def _backoff(self, idle: int) -> float:
        """Seconds until the next poll: 0.1 first, about doubling, `maxPollingInterval` at most."""
        grown: float = _QUICKEST_POLL * (1 + random.uniform(0.8, 1.2) * (2 ** min(idle - 1, 30) - 1))  # noqa: S311 - jitter
        return min(grown, max(_QUICKEST_POLL, self._settings.max_polling_interval.total_seconds()))

    async def _receive(self) -> list[QueueMessage]:
        pages = self._queue.receive_messages(
            messages_per_page=self._settings.batch_size, visibility_timeout=self._invisible_for
        ).by_page()
        try:
            return [message async for message in await anext(pages)]
        except StopAsyncIteration:
            return []
        except AzureError as error:
            refuse(error, f"queue '{self._name}'")
            _log.warning("Queue '%s' cannot be read: %s", self._name, type(error).__name__)
            return []

    async def _process(self, message: QueueMessage) -> None:
        try:
            body = _decode(message.content)
            tries = message.dequeue_count or 0
            if body is None or tries > self._settings.max_dequeue_count:
                await self._move_to_poison(message)
            elif await self._invoke(message, body):
                await self._queue.delete_message(message.id, message.pop_receipt)
            elif tries >= self._settings.max_dequeue_count:
                await self._move_to_poison(message)
            elif self._poison is not None:
                await self._hide(message, self._settings.visibility_timeout)
        except ResourceNotFoundError:
            _log.debug("Message %s of '%s' is gone", message.id, self._name)
        except AzureError as error:
            refuse(error, f"queue '{self._name}'")
            # The message is visible again when its time is up.
            _log.warning("Message %s of '%s': %s", message.id, self._name, type(error).__name__)

    async def _invoke(self, message: QueueMessage, body: bytes) -> bool:
        """Whether the function succeeded. A body that is not UTF-8 never reaches it."""
        times = {"expiration_time": message.expires_on, "insertion_time": message.inserted_on}
        times |= {"time_next_visible": message.next_visible_on}
        argument = azure.functions.queue.QueueMessage(
            id=message.id, body=body, dequeue_count=message.dequeue_count, pop_receipt=message.pop_receipt, **times
        )
        renewal = asyncio.create_task(self._keep_hidden(message))
        try:
            body.decode()
            await self._invoker.invoke(self._function, argument, "queue")
        except UnicodeDecodeError:
            _log.error("Message %s of '%s' is not UTF-8: no call", message.id, self._name)
            return False
        except InvocationError:
            return False
        finally:
            renewal.cancel()
            await asyncio.wait([renewal])
        return True

    async def _keep_hidden(self, message: QueueMessage) -> None:
        while True:
            await asyncio.sleep(self._invisible_for / 2)
            with suppress(AzureError):
                await self._hide(message, timedelta(seconds=self._invisible_for))

    async def _hide(self, message: QueueMessage, duration: timedelta) -> None:
        hidden = await self._queue.update_message(
            message.id, message.pop_receipt, visibility_timeout=int(duration.total_seconds())
        )
        message.pop_receipt = hidden.pop_receipt

    async def _move_to_poison(self, message: QueueMessage) -> None:
        if self._poison is None:
            return
        _log.warning("Message %s of '%s' is moved to '%s%s'", message.id, self._name, self._name, _POISON)
        try:
            await self._poison.send_message(message.content)
        except ResourceNotFoundError:
            with suppress(ResourceExistsError):
                await self._poison.create_queue()
            await self._poison.send_message(message.content)
        await self._queue.delete_message(message.id, message.pop_receipt)


def _decode(content: str) -> bytes | None:
    """The body of a message, or None if it is not base64. Line feeds in it do not matter."""
    with suppress(binascii.Error):
        return base64.b64decode("".join(content.split()), validate=True)
    return None
