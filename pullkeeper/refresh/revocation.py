"""Use case: refresh the fleet once because a token of a hub was revoked.

Each process that held one notices. Which of them refreshes is decided by a row of the table `shards`, under its ETag.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.data.tables.aio import TableServiceClient

from pullkeeper.fleet.storage import map_storage_errors, open_table
from pullkeeper.refresh.schedule import Scheduler

_REPLACEMENTS: Final = "replacement"
"""Partition of the rows, one for each hub of which a token was revoked: RowKey is the hub's identity."""


class Revocation:
    """Replaces tokens that were revoked, in the whole fleet."""

    def __init__(self, tables: TableServiceClient, scheduler: Scheduler, clock: Callable[[], datetime]) -> None:
        self._tables = tables
        self._scheduler = scheduler
        self._clock = clock

    async def replace(self, hub: str, accepted_at: datetime) -> int:
        """Refresh the whole fleet, unless that was done for this hub since `accepted_at`. Returns the number of shards
        that were queued. A failure in between is left to the next regular refresh of each cluster.

        hub: its identity. accepted_at: when the registry last accepted the token. Raises StorageUnavailable.
        """
        if not await self._claim(hub, accepted_at):
            return 0
        return (await self._scheduler.refresh_all_now()).queued

    async def _claim(self, hub: str, accepted_at: datetime) -> bool:
        """Return whether this process is the first."""
        table = await open_table(self._tables, "shards")
        row = {"PartitionKey": _REPLACEMENTS, "RowKey": hub, "At": self._clock()}
        try:
            async with map_storage_errors("tables"):
                before = await table.get_entity(_REPLACEMENTS, hub)
        except ResourceNotFoundError:
            before = None
        if before and before["At"] > accepted_at:
            return False
        try:
            async with map_storage_errors("tables"):
                if before is None:
                    await table.create_entity(row)
                else:
                    etag = before.metadata["etag"]
                    await table.update_entity(row, etag=etag, match_condition=MatchConditions.IfNotModified)
        except (ResourceExistsError, ResourceModifiedError):
            return False
        return True
