"""The queue of refreshes. Queue Storage and the scale controller are what makes a fleet of any size no concern of ours.

The SDK rather than an output binding: a binding sends after the function has returned, so that nobody could move a
cluster's due time only once its message is safely on the queue.
"""

from contextlib import suppress
from typing import Final

from azure.core.exceptions import AzureError, ResourceExistsError
from azure.storage.queue import TextBase64EncodePolicy
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from pullkeeper.errors import StorageUnavailable
from pullkeeper.model import Document

REFRESH: Final = "refresh"
ONBOARDING: Final = "onboarding"


class Queue:
    """Raises StorageUnavailable when it cannot be reached."""

    def __init__(self, service: QueueServiceClient, name: str) -> None:
        # base64 is what the Functions host expects; anything else goes to the poison queue without a word.
        self._queue: QueueClient = service.get_queue_client(name, message_encode_policy=TextBase64EncodePolicy())
        self._exists = False

    async def put(self, message: Document) -> None:
        try:
            await self._ensure()
            await self._queue.send_message(message.to_json())
        except AzureError as e:
            raise StorageUnavailable(f"queues: {type(e).__name__}: {e.message}") from None

    async def depth(self) -> int:
        """About how many messages lie there, hidden ones included."""
        try:
            await self._ensure()
            return (await self._queue.get_queue_properties()).approximate_message_count or 0
        except AzureError as e:
            raise StorageUnavailable(f"queues: {type(e).__name__}: {e.message}") from None

    async def _ensure(self) -> None:
        if not self._exists:
            with suppress(ResourceExistsError):
                await self._queue.create_queue()
            self._exists = True
