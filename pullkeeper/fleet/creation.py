"""Create the app's queues and tables when the app starts to work.

A trigger does not create its queue, and while one is missing, every poll of the host logs a warning: with two missing
poison queues 34,560 a day and instance.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from azure.core.exceptions import AzureError
from azure.data.tables.aio import TableServiceClient
from azure.storage.queue.aio import QueueServiceClient

from pullkeeper.deadline import remaining
from pullkeeper.fleet import storage
from pullkeeper.fleet.queues import ONBOARDING, POISON, REFRESH
from pullkeeper.setting_problems import Problem

QUEUES: Final = (REFRESH, ONBOARDING, *POISON)
TABLES: Final = ("fleet", "shards", "operations")
_REMEDY: Final = (
    "az storage {kind} create --name {name} --account-name <storage account> --auth-mode login; or assign the app's "
    "identity the role Storage {role} Data Contributor, and restart the app"
)


class StorageObjects:
    """The queues and tables of the app. problems: those that could be neither created nor read."""

    def __init__(self, tables: TableServiceClient, queues: QueueServiceClient) -> None:
        self._tables = tables
        self._queues = queues
        self._complete = False
        self.problems: tuple[Problem, ...] = ()

    async def create(self) -> None:
        """Create what does not exist, unless that has succeeded before. Never raises."""
        if self._complete:
            return
        found = await asyncio.gather(*map(self._create_queue, QUEUES), *map(self._create_table, TABLES))
        self.problems = tuple(problem for problem in found if problem)
        self._complete = not self.problems

    async def _create_queue(self, name: str) -> Problem | None:
        queue = self._queues.get_queue_client(name)
        return await _create(name, "queue", queue.create_queue, queue.get_queue_properties)

    async def _create_table(self, name: str) -> Problem | None:
        table = self._tables.get_table_client(name)

        async def read() -> None:
            async for _ in table.query_entities("PartitionKey eq ''", results_per_page=1):
                return

        return await _create(name, "table", table.create_table, read)


async def _create(
    name: str, kind: str, create: Callable[[], Awaitable[object]], read: Callable[[], Awaitable[object]]
) -> Problem | None:
    """Where the rights to create are missing, one that can be read is good enough."""
    try:
        async with asyncio.timeout(remaining(storage.CALL.total_seconds())):
            try:
                await create()
            except AzureError:
                await read()
    except (AzureError, TimeoutError) as e:
        remedy = _REMEDY.format(kind=kind, name=name, role=kind.title())
        return Problem(
            severity="warning",
            detail=f"the {kind} {name} can be neither created nor read: {type(e).__name__}",
            remedy=remedy,
        )
    return None
