"""The rows of hubs in the table `shards`: how the last mint of each went, in whichever process.

A row is written in the background: a mint neither waits for storage nor fails with it.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextvars import Context
from datetime import timedelta
from typing import Any, Final

from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableServiceClient

from pullkeeper import telemetry
from pullkeeper.errors import InvalidRequest, PullkeeperError, StorageUnavailable, UnknownFormat
from pullkeeper.fleet.queues import FORMAT
from pullkeeper.fleet.storage import map_storage_errors
from pullkeeper.mints import MintProblem, MintRecord

HUBS: Final = "hub"
"""Partition of the rows. RowKey is the hub's identity: hubs with the same content share a row, as they share mints."""
_REPEAT: Final = timedelta(minutes=5)
_TRIES: Final = 3
_PATIENCE: Final = 5.0  # seconds


class MintTable:
    """Writes down the outcome of each mint of the hubs that have a name."""

    def __init__(self, tables: TableServiceClient, hubs: Mapping[str, str]) -> None:
        """hubs: names by identity. Hubs without one come from requests: their number has no bound."""
        self._service = tables
        self._hubs = hubs
        self._failures: dict[str, MintProblem | None] = {}
        self._writes: set[asyncio.Task[None]] = set()

    def record(self, hub: str, outcome: MintRecord) -> None:
        """Start to write the outcome of a mint. A failure of the same category as this process's last is written every
        five minutes. hub: its identity.
        """
        last, failure = self._failures.get(hub), outcome.failure
        is_repeated = last and failure and last.category == failure.category and failure.at - last.at < _REPEAT
        if hub not in self._hubs or is_repeated:
            return
        self._failures[hub] = failure
        # The write outlasts the invocation, so it has a time limit of its own.
        write = asyncio.create_task(self._write(hub, outcome), context=Context())
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)

    async def finish(self) -> None:
        """Wait for the writes that are under way, and cancel those that take too long."""
        if not self._writes:
            return
        _, late = await asyncio.wait(self._writes, timeout=_PATIENCE)
        for write in late:
            write.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _write(self, hub: str, outcome: MintRecord) -> None:
        """Never raises."""
        try:
            await self._merge(hub, outcome)
        except PullkeeperError as e:
            event = {"hub": self._hubs[hub], "category": e.category, "detail": e.detail, "remedy": e.remedy}
            telemetry.emit("mint.unrecorded", event, logging.WARNING)
        except Exception as e:  # noqa: BLE001 - asyncio would log its text
            telemetry.report_unexpected("the record of a mint", e)

    async def _merge(self, hub: str, outcome: MintRecord) -> None:
        """Merge the outcome into the row, and again when another process was quicker; not for ever, because what that
        has written is just as new. Raises StorageUnavailable, UnknownFormat.
        """
        for _ in range(_TRIES):
            if await self._merge_once(hub, outcome):
                return

    async def _merge_once(self, hub: str, outcome: MintRecord) -> bool:
        table = self._service.get_table_client("shards")
        try:
            async with map_storage_errors("tables"):
                before = await table.get_entity(HUBS, hub)
        except ResourceNotFoundError:
            before = None
        known = read_hub(before) if before else MintRecord()
        if known is None:
            raise UnknownFormat(f"the row of hub {self._hubs[hub]} in the table shards")
        merged = known.merge(outcome)
        row = {"PartitionKey": HUBS, "RowKey": hub, "Format": FORMAT, "Record": merged.to_json()}
        try:
            async with map_storage_errors("tables"):
                if before is None:
                    await table.create_entity(row)
                else:
                    etag = before.metadata["etag"]
                    unchanged = MatchConditions.IfNotModified
                    await table.update_entity(row, mode=UpdateMode.REPLACE, etag=etag, match_condition=unchanged)
        except (ResourceExistsError, ResourceModifiedError):
            return False
        except ResourceNotFoundError:
            raise StorageUnavailable("the table shards, or the hub's row in it, has been deleted") from None
        return True


def read_hub(entity: Mapping[str, Any]) -> MintRecord | None:
    """Read a row. One that cannot be read is as one that was never written: the next mint writes it again. None: it has
    a format that this code does not know.
    """
    if entity.get("Format") != FORMAT:
        return None
    try:
        return MintRecord.parse(entity.get("Record"))
    except InvalidRequest:
        return MintRecord()
