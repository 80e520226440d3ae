"""The queues and their messages. Queue Storage and the Functions scale controller are the distributed engine.

The SDK rather than an output binding, because a binding sends only after the function has returned.
"""

import json
from contextlib import suppress
from datetime import timedelta
from math import ceil
from typing import Final, Literal

from azure.storage.queue import TextBase64EncodePolicy
from azure.storage.queue.aio import QueueClient, QueueServiceClient
from pydantic import AwareDatetime

from pullkeeper.document import Document
from pullkeeper.errors import MALFORMED
from pullkeeper.fleet.shards import Shard
from pullkeeper.fleet.storage import allow_existing, map_storage_errors
from pullkeeper.model import ClusterRef

REFRESH: Final = "refresh"
ONBOARDING: Final = "onboarding"
POISON: Final = (f"{REFRESH}-poison", f"{ONBOARDING}-poison")
"""The host moves a message to `<queue>-poison` after its last try."""
FORMAT: Final = 1
"""Version of the messages and rows that this code writes. It leaves those with another version as they are."""
_AT_ONCE: Final = timedelta()


class RefreshMessage(Document):
    """A message of the queue `refresh`. cluster: that one alone, due or not. manual: all of them, due or not.
    since: a manual refresh that continues leaves what was refreshed since then.
    """

    version: Literal[1] = FORMAT
    shard: Shard
    cluster: ClusterRef | None = None
    reason: Literal["due", "retry", "manual"]
    since: AwareDatetime | None = None


def has_other_version(raw: bytes) -> bool:
    """Whether a message was written by another version of Pullkeeper, older or newer."""
    with suppress(*MALFORMED):
        return bool(json.loads(raw)["version"] != FORMAT)
    return False


class Queue:
    """One queue, created at its first use. Every method raises StorageUnavailable."""

    def __init__(self, service: QueueServiceClient, name: str) -> None:
        # The host expects base64: it moves a message in any other encoding to the poison queue without a log line.
        self._queue: QueueClient = service.get_queue_client(name, message_encode_policy=TextBase64EncodePolicy())
        self._exists = False

    async def put(self, message: Document | str, delay: timedelta = _AT_ONCE) -> None:
        """Send a message that no one receives before `delay` (whole seconds, seven days at most) has passed."""
        text = message if isinstance(message, str) else message.model_dump_json(by_alias=True, exclude_none=True)
        await self._ensure()
        async with map_storage_errors("queues"):
            await self._queue.send_message(text, visibility_timeout=ceil(delay.total_seconds()))

    async def depth(self) -> int:
        """Return about how many messages the queue holds, hidden ones included."""
        await self._ensure()
        async with map_storage_errors("queues"):
            return (await self._queue.get_queue_properties()).approximate_message_count or 0

    async def _ensure(self) -> None:
        if not self._exists:
            async with map_storage_errors("queues"):
                with allow_existing():
                    await self._queue.create_queue()
            self._exists = True
