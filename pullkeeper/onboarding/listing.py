"""Lists of operations, the newest first, with counts by status. No page costs more because there are more operations.

Those that have ended are indexed by status, those that have not are few, and a cluster's row names its own.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, get_args

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables.aio import TableClient, TableServiceClient

from pullkeeper.fleet.storage import map_storage_errors, open_table
from pullkeeper.onboarding.documents import (
    FINAL_STATUSES,
    OperationsPage,
    OperationsQuery,
    OperationStatus,
    OperationSummary,
)
from pullkeeper.onboarding.operations import Operations
from pullkeeper.onboarding.rows import OPERATION, SUMMARY, ended_partition, first_id, parse_summary

_PAGE: Final = 100
_OLDEST: Final = "~"
"""Behind all ids."""
_SETTLED: Final = timedelta(minutes=10)
"""Operations that began so long ago are all in the table: the clocks of instances differ by less."""
_COUNT_AGAIN: Final = timedelta(hours=1)
"""Operations are removed 90 days after their end, and are counted until then."""


@dataclass(frozen=True, slots=True)
class _Counted:
    """Operations that have ended: those that began before the one with the id `until`, and that one. at: since when."""

    at: datetime
    until: str = _OLDEST
    by_status: Counter[str] = field(default_factory=Counter)


class Listing:
    """Every method raises StorageUnavailable."""

    def __init__(self, tables: TableServiceClient, operations: Operations, clock: Callable[[], datetime]) -> None:
        self._service = tables
        self._operations = operations
        self._clock = clock
        self._counted = _Counted(clock())

    async def page(self, query: OperationsQuery) -> OperationsPage:
        """Return a page of the operations that the query asks for, and how many there are in each status."""
        table, running = await open_table(self._service, "operations"), await self._operations.list_running()
        found = await self._find(table, query, running)
        page = tuple(found[:_PAGE])
        continuation = page[-1].id if len(found) > _PAGE else None
        counts = await self._count(table, running)
        return OperationsPage(operations=page, continuation=continuation, counts=counts)

    async def _find(self, table: TableClient, query: OperationsQuery, running: list[str]) -> list[OperationSummary]:
        """Return one operation more than a page has, if there are so many."""
        after, status = query.continuation or "", query.status
        if query.cluster:
            identifiers = [one for one in await self._operations.list_history(query.cluster) if one > after]
            rows = await asyncio.gather(*(_read_summary(table, one) for one in identifiers))
            found = [parse_summary(row) for row in rows if row]
            return [one for one in found if status in {None, one.status}]
        if status in FINAL_STATUSES:
            return await _query(table, ended_partition(status), after, _OLDEST)
        if status:
            return await _query(table, OPERATION, after, max(running, default=after), f"Status eq '{status}'")
        return await _query(table, OPERATION, after, _OLDEST)

    async def _count(self, table: TableClient, running: list[str]) -> Mapping[OperationStatus, int]:
        """Count all operations. Those that had ended and were counted before are not read again."""
        now, counted = self._clock(), self._counted
        if now - counted.at > _COUNT_AGAIN:
            counted = _Counted(now)
        # An operation that begins has a smaller id than all of these.
        settled = max([first_id(now - _SETTLED), *running])
        ended, recent, until = Counter(counted.by_status), Counter[str](), counted.until
        async with map_storage_errors("tables"):
            where = f"PartitionKey eq '{OPERATION}' and RowKey lt '{counted.until}'"
            async for row in table.query_entities(where, select=["RowKey", "Status"]):
                if row["RowKey"] > settled:
                    until = min(until, row["RowKey"])
                    ended[row["Status"]] += 1
                else:
                    recent[row["Status"]] += 1
        self._counted = _Counted(counted.at, until, ended)
        return {status: ended[status] + recent[status] for status in get_args(OperationStatus)}


async def _query(
    table: TableClient, partition: str, after: str, last: str, condition: str = "RowKey ne ''"
) -> list[OperationSummary]:
    """Return the operations of a partition between two ids, the newest first."""
    where = f"PartitionKey eq @Partition and RowKey gt @After and RowKey le @Last and {condition}"
    values = {"Partition": partition, "After": after, "Last": last}
    found: list[OperationSummary] = []
    async with map_storage_errors("tables"):
        async for row in table.query_entities(where, parameters=values, select=SUMMARY, results_per_page=_PAGE + 1):
            found.append(parse_summary(row))
            if len(found) > _PAGE:
                break
    return found


async def _read_summary(table: TableClient, identifier: str) -> Any:
    """Return None for an operation that has been removed."""
    try:
        async with map_storage_errors("tables"):
            return await table.get_entity(OPERATION, identifier, select=SUMMARY)
    except ResourceNotFoundError:
        return None
