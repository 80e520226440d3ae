"""The app's queues in Queue Storage.

The SDK is used rather than an output binding: a binding sends only after the function has returned, and a cluster's due
time may move only once its message is on the queue.
"""

from datetime import timedelta
from typing import Final

from azure.storage.queue import TextBase64EncodePolicy
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from pullkeeper.document import Document
from pullkeeper.fleet.storage import allow_existing, map_storage_errors

REFRESH: Final = "refresh"
ONBOARDING: Final = "onboarding"
POISON: Final = (f"{REFRESH}-poison", f"{ONBOARDING}-poison")
"""The host moves a message to `<queue>-poison` after its last try."""


class Queue:
    """One queue, created at its first use. Every method raises StorageUnavailable."""

    def __init__(self, service: QueueServiceClient, name: str) -> None:
        # host.json says base64: the host moves any other encoding to the poison queue without calling a function.
        self._queue: QueueClient = service.get_queue_client(name, message_encode_policy=TextBase64EncodePolicy())
        self._exists = False

    async def put(self, message: Document, delay: timedelta = timedelta()) -> None:
        """Send a message that no one receives before `delay` (whole seconds, seven days at most) has passed."""
        await self._create()
        async with map_storage_errors("queues"):
            await self._queue.send_message(message.to_json(), visibility_timeout=round(delay.total_seconds()))

    async def depth(self) -> int:
        """Return the approximate number of messages, hidden ones included."""
        await self._create()
        async with map_storage_errors("queues"):
            return (await self._queue.get_queue_properties()).approximate_message_count or 0

    async def _create(self) -> None:
        if not self._exists:
            async with map_storage_errors("queues"):
                with allow_existing():
                    await self._queue.create_queue()
            self._exists = True
