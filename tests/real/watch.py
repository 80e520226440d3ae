"""Everything that happens to a secret, in order and without gaps: what polling might miss, a watch does not."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.contract.conversation import Caller


@dataclass(frozen=True, slots=True)
class Event:
    """kind: ADDED, MODIFIED or DELETED. at: when it came in, in seconds."""

    kind: str
    metadata: dict[str, Any]
    at: float

    @property
    def uid(self) -> str:
        return str(self.metadata["uid"])

    @property
    def version(self) -> int:
        """Kubernetes 1.35 and later let clients compare these as numbers."""
        return int(self.metadata["resourceVersion"])


@dataclass(slots=True)
class Watch:
    """Of all secrets in a namespace."""

    admin: Caller
    secrets: str
    _seen: list[Event] = field(default_factory=list)
    _markers: int = 0

    async def events(self, name: str) -> list[Event]:
        """What has happened to the secret so far, up to this call.

        To be sure that nothing is still under way, another secret is created: when that has come in, all has.
        """
        self._markers += 1
        marker = f"marker-{self._markers}"
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": marker}}
        assert (await self.admin.post(self.secrets, body)).status == 201
        async with asyncio.timeout(20):
            while not self._of(marker):  # noqa: ASYNC110 - the event is in another process
                await asyncio.sleep(0.01)
        return self._of(name)

    def _of(self, name: str) -> list[Event]:
        return [event for event in self._seen if event.metadata["name"] == name]

    async def follow(self, since: str) -> None:
        query = {"watch": "true", "resourceVersion": since}
        patience = aiohttp.ClientTimeout(total=None)
        url = self.admin.url + self.secrets
        async with self.admin.session.get(url, params=query, timeout=patience) as answer:
            async for line in answer.content:
                event = json.loads(line)
                self._seen.append(Event(event["type"], event["object"]["metadata"], time.monotonic()))


@contextlib.asynccontextmanager
async def watching(admin: Caller, namespace: str) -> AsyncIterator[Watch]:
    """From now on. The namespace need not exist."""
    watch = Watch(admin, f"/api/v1/namespaces/{namespace}/secrets")
    now = (await admin.get(watch.secrets)).body["metadata"]["resourceVersion"]
    following = asyncio.create_task(watch.follow(now))
    try:
        yield watch
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
