"""Use case: remove operations from their table 90 days after their end, a slice at each run of the timer."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from azure.core import MatchConditions
from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError
from azure.data.tables.aio import TableClient, TableServiceClient

from pullkeeper.deadline import has_passed, reserve
from pullkeeper.fleet.storage import CALL, map_storage_errors, open_table
from pullkeeper.fleet.table import entity_keys
from pullkeeper.model import ClusterId
from pullkeeper.onboarding.documents import OperationSummary
from pullkeeper.onboarding.operations import Operations
from pullkeeper.onboarding.rows import OPERATION, SUMMARY, ended_partition, first_expired_id, parse_summary

_SLICE: Final = 50
"""Operations in one run, with at most six calls to storage for each."""
_LOOK_AGAIN_AFTER: Final = timedelta(days=7)


class Retention:
    """Removes operations that no one needs any more."""

    def __init__(self, tables: TableServiceClient, operations: Operations, clock: Callable[[], datetime]) -> None:
        self._tables = tables
        self._operations = operations
        self._clock = clock

    async def remove_expired(self) -> None:
        """Remove the next operations whose time is over. Those that its offboarding has to undo stay for another week:
        with them, all of a cluster in the fleet. Raises StorageUnavailable.
        """
        now = self._clock()
        with reserve(CALL):
            table = await open_table(self._tables, "operations")
            for operation in await _list_expired(table, now):
                if has_passed():
                    return
                if await self._release(table, operation):
                    for partition in (ended_partition(operation.status), OPERATION):
                        async with map_storage_errors("tables"):
                            await table.delete_entity(partition, operation.id)
                else:
                    kept = {"PartitionKey": OPERATION, "RowKey": operation.id, "KeptUntil": now + _LOOK_AGAIN_AFTER}
                    async with map_storage_errors("tables"):
                        await table.update_entity(kept)

    async def _release(self, table: TableClient, operation: OperationSummary) -> bool:
        """Return whether its cluster's row does without the operation. The row of a cluster that has left the fleet,
        with nothing to undo, is removed together with its latest operation.
        """
        row = await _read_cluster_row(table, operation.cluster)
        onboardings = row.get("Onboardings", "").split(",") if row else []
        if row is None or operation.id not in {row["Operation"], *onboardings}:
            return True
        latest = await self._operations.latest(operation.cluster)
        has_to_undo = any(onboardings) and not (latest and latest.removed_everything)
        if has_to_undo:
            return False
        return operation.id != row["Operation"] or await _remove_cluster_row(table, row)


async def _list_expired(table: TableClient, now: datetime) -> list[OperationSummary]:
    """Return a slice of the operations whose time is over. Reads no row that is younger than that time."""
    where = "PartitionKey eq @Partition and RowKey ge @After and KeptUntil lt @Now"
    values = {"Partition": OPERATION, "After": first_expired_id(now), "Now": now}
    found: list[OperationSummary] = []
    async with map_storage_errors("tables"):
        async for row in table.query_entities(where, parameters=values, select=SUMMARY, results_per_page=_SLICE):
            found.append(parse_summary(row))
            if len(found) == _SLICE:
                break
    return found


async def _read_cluster_row(table: TableClient, cluster: ClusterId) -> Any:
    keys = entity_keys(cluster)
    try:
        async with map_storage_errors("tables"):
            return await table.get_entity(keys["PartitionKey"], keys["RowKey"])
    except ResourceNotFoundError:
        return None


async def _remove_cluster_row(table: TableClient, row: Any) -> bool:
    """Return False if another operation has begun."""
    condition = {"etag": row.metadata["etag"], "match_condition": MatchConditions.IfNotModified}
    try:
        async with map_storage_errors("tables"):
            await table.delete_entity(row["PartitionKey"], row["RowKey"], **condition)
    except ResourceModifiedError:
        return False
    return True
