"""Table `operations`: each onboarding and offboarding with its steps, and the latest operation of each cluster.

An operation's row is found by its id, and the newest comes first. A cluster's row points to its latest operation; it is
changed under the ETag of what was there before, so two operations for one cluster cannot begin at the same time. It
also lists the onboardings since the cluster was last offboarded, without dry runs, and what selectors have found: what
offboarding has to undo; and its latest operations. Indexes list the operations that have not ended, and those that
have, by status.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient, TableServiceClient

from pullkeeper.errors import NotInFleet, OperationRunning
from pullkeeper.fleet.storage import map_storage_errors, open_table
from pullkeeper.fleet.table import columns, entity_keys, text
from pullkeeper.model import ClusterId
from pullkeeper.onboarding.documents import FINAL_STATUSES, Onboarding, Operation
from pullkeeper.onboarding.rows import OPERATION, STATE, State, StoredOperation

_RUNNING: Final = "running"
"""Partition of the index: a row for each operation that has not ended, so that the timer finds them with one query."""
_UNFINISHED: Final = "(Status eq 'Queued' or Status eq 'Running')"
_HISTORY: Final = 100
"""Operations that a cluster's row names: a property holds a thousand ids."""
_FOUND: Final = "Found"
_HUB_FIELDS: Final = frozenset({"hub", "credentialConfig", "registries", "probe"})


class ChangedByAnother(Exception):
    """Another invocation has written the operation since it was read: the queue has delivered its message twice."""


class Operations:
    """Every method raises StorageUnavailable."""

    def __init__(self, tables: TableServiceClient, trusted_hosts: frozenset[str]) -> None:
        self._service = tables
        self._trusted_hosts = trusted_hosts
        self._opened: TableClient | None = None

    async def begin(
        self, operation: Operation, request: Onboarding, now: datetime, *, undo_own_request: bool = False
    ) -> StoredOperation:
        """Make it the cluster's latest operation. Raises OperationRunning, which names the one that runs.

        undo_own_request: for an offboarding whose own request is all that is known of the cluster.
        """
        table, cluster = await self._table(), operation.cluster
        row = await self._cluster_row(cluster)
        latest = await self._find(row["Operation"]) if row else None
        if latest and latest.operation.status not in FINAL_STATUSES and not latest.is_abandoned(now):
            raise _already_running(latest.operation.id)
        principals = latest.list_principals() if latest else ()
        stored = StoredOperation(operation, request.to_json(), "", due=now, principals=principals)
        # The index first: the timer clears it, and would never find an operation that is not in it.
        async with map_storage_errors("tables"):
            await table.upsert_entity({"PartitionKey": _RUNNING, "RowKey": operation.id})
        async with map_storage_errors("tables"):
            written = await table.upsert_entity(stored.to_entity(), mode=UpdateMode.REPLACE)
        undone = latest is not None and latest.operation.removed_everything
        to_undo = [operation.id] if undo_own_request else await self._list_to_undo(row, latest, operation, request)
        history = [operation.id, *filter(None, (row or {}).get("History", "").split(","))][:_HISTORY]
        pointers = {"Operation": operation.id, "Onboardings": ",".join(to_undo), "History": ",".join(history)}
        kept = {name: value for name, value in (row or {}).items() if not (undone and name.startswith(_FOUND))}
        changed = {**entity_keys(cluster), **kept, **pointers}
        await self._save_cluster_row(changed, row, operation)
        return replace(stored, etag=written["etag"])

    async def save(self, stored: StoredOperation) -> StoredOperation:
        """Save an operation under the ETag it was read with. Raises ChangedByAnother."""
        saved = await self._save(stored)
        if saved.operation.status in FINAL_STATUSES:
            await self.index_ended(saved)
        return saved

    async def list_running(self) -> list[str]:
        """Return the ids of the operations that have not ended; a few that have may be among them."""
        table = await self._table()
        async with map_storage_errors("tables"):
            rows = table.query_entities(f"PartitionKey eq '{_RUNNING}'", select=["RowKey"])
            return [row["RowKey"] async for row in rows]

    async def list_states(self, identifiers: list[str]) -> list[State]:
        """Return those of the operations that have not ended. Reads no operation that is older or newer than all."""
        if not identifiers:
            return []
        table = await self._table()
        values = {"First": min(identifiers), "Last": max(identifiers)}
        where = f"PartitionKey eq '{OPERATION}' and RowKey ge @First and RowKey le @Last and {_UNFINISHED}"
        async with map_storage_errors("tables"):
            rows = table.query_entities(where, parameters=values, select=STATE)
            return [State.parse(row) async for row in rows]

    async def index_ended(self, stored: StoredOperation) -> None:
        """Move an operation that has ended from the index of those that have not to the one of its status."""
        table = await self._table()
        async with map_storage_errors("tables"):
            await table.upsert_entity(stored.to_summary())
        await self.forget_running(stored.operation.id)

    async def forget_running(self, identifier: str) -> None:
        """Remove an operation from the index."""
        table = await self._table()
        async with map_storage_errors("tables"):
            await table.delete_entity(_RUNNING, identifier)

    async def _save(self, stored: StoredOperation) -> StoredOperation:
        table = await self._table()
        for _ in range(2):
            try:
                async with map_storage_errors("tables"):
                    written = await table.update_entity(
                        stored.to_entity(),
                        mode=UpdateMode.REPLACE,
                        etag=stored.etag,
                        match_condition=MatchConditions.IfNotModified,
                    )
                return replace(stored, etag=written["etag"])
            except (ResourceModifiedError, ResourceNotFoundError):
                row = await self._row(OPERATION, stored.operation.id)
                # The SDK writes again when a response is lost, and meets its own first write.
                if row is None or row.get("Writer") != stored.writer:
                    break
                stored = replace(stored, etag=row.metadata["etag"])
        raise ChangedByAnother

    async def load(self, identifier: str) -> StoredOperation:
        """Raises NotInFleet for an unknown id."""
        stored = await self._find(identifier)
        if stored is None:
            raise NotInFleet(f"there is no operation {identifier}")
        return stored

    async def list_history(self, cluster: ClusterId) -> list[str]:
        """Return the ids of a cluster's operations, the newest first; some may have been removed."""
        row = await self._cluster_row(cluster)
        return row.get("History", "").split(",") if row else []

    async def add_found(self, cluster: ClusterId, found: Iterable[str]) -> frozenset[str]:
        """Remember what an offboarding found in the fleet, until one has removed everything. Returns all of it."""
        known = frozenset(json.loads(text(await self._cluster_row(cluster) or {}, _FOUND) or "[]"))
        if new := frozenset(found) - known:
            table = await self._table()
            entity = {**entity_keys(cluster), **columns(_FOUND, json.dumps(sorted(known | new)))}
            async with map_storage_errors("tables"):
                await table.upsert_entity(entity, mode=UpdateMode.MERGE)
        return known | new

    def parse_request(self, stored: StoredOperation) -> Onboarding:
        """Raises InvalidRequest if the settings no longer allow it."""
        return Onboarding.parse(stored.request, trusted_hosts=self._trusted_hosts)

    async def latest(self, cluster: ClusterId) -> Operation | None:
        row = await self._cluster_row(cluster)
        stored = await self._find(row["Operation"]) if row else None
        return stored.operation if stored else None

    async def list_onboardings(self, cluster: ClusterId) -> list[tuple[Operation, Onboarding]]:
        """Return the onboardings since the cluster was last offboarded, the latest of each footprint, in order of time;
        or the offboarding that knew the cluster from the fleet alone. Their hubs are left out: undoing needs none, and
        the settings may no longer allow them.
        """
        return await self._list_onboardings(await self._cluster_row(cluster), None)

    async def read_cluster(self, stored: StoredOperation) -> tuple[str | None, list[tuple[Operation, Onboarding]]]:
        """Return the id of the latest operation of an operation's cluster, and its onboardings as `list_onboardings`
        does, in one look at the cluster's row.
        """
        row = await self._cluster_row(stored.operation.cluster)
        return (row["Operation"] if row else None), await self._list_onboardings(row, stored)

    async def _list_onboardings(self, row: Any, known: StoredOperation | None) -> list[tuple[Operation, Onboarding]]:
        """row: of the cluster. known: an operation that has been read already."""
        found: list[tuple[Operation, Onboarding]] = []
        for identifier in filter(None, (row or {}).get("Onboardings", "").split(",")):
            one = known if known and known.operation.id == identifier else await self._find(identifier)
            if one:
                found.append((one.operation, _parse_without_hub(one.request)))
        return found

    async def _list_to_undo(
        self, row: Any, latest: StoredOperation | None, operation: Operation, request: Onboarding
    ) -> list[str]:
        """Return the ids of the operations that offboarding has to undo. row: of the cluster."""
        undone = latest and latest.operation.removed_everything
        earlier = [] if undone else await self._list_onboardings(row, latest)
        if operation.kind == "offboard" or operation.dry_run:
            return [one.id for one, _ in earlier]
        return [*(one.id for one, other in earlier if other.footprint != request.footprint), operation.id]

    async def _save_cluster_row(self, changed: dict[str, str], row: Any, operation: Operation) -> None:
        table, cluster = await self._table(), operation.cluster
        try:
            async with map_storage_errors("tables"):
                if row is None:
                    await table.create_entity(changed)
                else:
                    await table.update_entity(
                        changed,
                        mode=UpdateMode.REPLACE,
                        etag=row.metadata["etag"],
                        match_condition=MatchConditions.IfNotModified,
                    )
        except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError):
            now = await self._cluster_row(cluster)
            if now and now["Operation"] == operation.id:
                return  # as in `_save`
            async with map_storage_errors("tables"):
                await table.delete_entity(OPERATION, operation.id)
            await self.forget_running(operation.id)
            raise _already_running(now["Operation"] if now else "?") from None

    async def _find(self, identifier: str) -> StoredOperation | None:
        row = await self._row(OPERATION, identifier)
        return StoredOperation.parse(row) if row else None

    async def _cluster_row(self, cluster: ClusterId) -> Any:
        return await self._row(*entity_keys(cluster).values())

    async def _row(self, partition_key: str, row_key: str) -> Any:
        table = await self._table()
        try:
            async with map_storage_errors("tables"):
                return await table.get_entity(partition_key, row_key)
        except ResourceNotFoundError:
            return None

    async def _table(self) -> TableClient:
        if self._opened is None:
            self._opened = await open_table(self._service, "operations")
        return self._opened


def _parse_without_hub(request: str) -> Onboarding:
    return Onboarding.parse({key: value for key, value in json.loads(request).items() if key not in _HUB_FIELDS})


def _already_running(operation: str) -> OperationRunning:
    return OperationRunning(
        f"operation {operation} is under way for this cluster", {"operation": f"/api/operations/{operation}"}
    )
