"""When each timer last ran and is due next, kept in storage, so that a host that starts sees what was missed."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.data.tables.aio import TableServiceClient

_log = logging.getLogger("local.host")
# The real host writes a blob for each timer. A table serves as well, and the app's own packages can write it.
_TABLE = "azurewebjobstimers"


@dataclass(frozen=True, slots=True)
class Status:
    """`last` is None until the first run. `updated` is the moment from which `next` was reckoned."""

    last: datetime | None
    updated: datetime
    next: datetime


class Monitor:
    """Out of reach, storage costs the memory of a run, never the run."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        connection_string = environment.get("AzureWebJobsStorage")
        self._service = connection_string and TableServiceClient.from_connection_string(connection_string)

    async def read(self, timer: str) -> Status | None:
        if not self._service:
            return None
        try:
            entity = await self._service.get_table_client(_TABLE).get_entity("timer", timer)
        except ResourceNotFoundError:
            return None
        except AzureError as error:
            _log.warning("The status of timer '%s' cannot be read: %s", timer, type(error).__name__)
            return None
        last = entity.get("Last")
        return Status(
            last=datetime.fromisoformat(last) if last else None,
            updated=datetime.fromisoformat(entity["LastUpdated"]),
            next=datetime.fromisoformat(entity["Next"]),
        )

    async def write(self, timer: str, status: Status) -> None:
        if not self._service:
            return
        entity = {
            "PartitionKey": "timer",
            "RowKey": timer,
            "Last": status.last.isoformat() if status.last else "",
            "LastUpdated": status.updated.isoformat(),
            "Next": status.next.isoformat(),
        }
        try:
            table = await self._service.create_table_if_not_exists(_TABLE)
            await table.upsert_entity(entity)
        except AzureError as error:
            _log.warning("The status of timer '%s' cannot be written: %s", timer, type(error).__name__)

    async def close(self) -> None:
        if self._service:
            await self._service.close()
