"""The composition root: builds everything once per process, from settings, when it is first needed."""

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Self

from azure.core.credentials_async import AsyncTokenCredential
from azure.data.tables.aio import TableServiceClient
from azure.identity.aio import ManagedIdentityCredential
from azure.storage.queue.aio import QueueServiceClient

from pullkeeper.access import Access
from pullkeeper.azure_clusters import AzureClusters
from pullkeeper.entra import Entra
from pullkeeper.federation import Federation
from pullkeeper.fleet import Fleet
from pullkeeper.queues import RefreshQueue
from pullkeeper.refresh import Refresher
from pullkeeper.schedule import Scheduler
from pullkeeper.settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases, and the fleet for those who onboard."""

    fleet: Fleet
    scheduler: Scheduler
    refresher: Refresher
    _open: AsyncExitStack

    @classmethod
    def build(cls, environment: Mapping[str, str], clock: Callable[[], datetime]) -> Self:
        """Raises InvalidRequest naming each setting that is wrong. Nothing is connected to yet."""
        settings = Settings.read(environment)

        def credential() -> AsyncTokenCredential:
            return ManagedIdentityCredential(client_id=settings.client_id)

        entra = Entra(credential)
        tables, queues = _storage(settings, credential)
        fleet = Fleet(tables, settings.trusted_hosts)
        clusters = AzureClusters(entra, settings.arm_endpoint, clock)
        access = Access(entra, clusters)
        federation = Federation(entra, clock)
        opened = AsyncExitStack()
        for client in (entra, tables, queues):
            opened.push_async_callback(client.close)
        return cls(
            fleet=fleet,
            scheduler=Scheduler(fleet, RefreshQueue(queues), clock),
            refresher=Refresher(fleet, federation, access, settings.hubs, clock),
            _open=opened,
        )

    async def close(self) -> None:
        """Close the connections. The Functions host never asks for it; whoever builds services for a while does."""
        await self._open.aclose()


@cache
def services() -> Services:
    """Those of this process; closed when the event loop that first asked for them ends in order."""
    made = Services.build(os.environ, lambda: datetime.now(UTC))
    _closing.append(asyncio.get_running_loop().create_task(_close_with_the_loop(made)))
    return made


_closing: list[asyncio.Task[None]] = []


async def _close_with_the_loop(made: Services) -> None:
    """The platform tells an app nothing of its end, but a loop that ends cancels what still runs in it."""
    try:
        await asyncio.Event().wait()
    finally:
        await made.close()


def _storage(
    settings: Settings, credential: Callable[[], AsyncTokenCredential]
) -> tuple[TableServiceClient, QueueServiceClient]:
    if settings.storage:
        return (
            TableServiceClient.from_connection_string(settings.storage),
            QueueServiceClient.from_connection_string(settings.storage),
        )
    return (
        TableServiceClient(settings.table_service or "", credential=credential()),
        QueueServiceClient(settings.queue_service or "", credential=credential()),
    )
