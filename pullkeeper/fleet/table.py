"""Tables `clusters` and `status`: the members of the fleet, and the status of each.

Two tables, so that no two writers share an entity: `clusters` is written when a cluster joins or leaves, `status` by
scheduler and refresher. PartitionKey is the subscription, RowKey `resource group|name`. An entity holds its document as
JSON, beside the columns for people with a table browser. Writes are conditional on the ETag that was read.
"""

import base64
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient, TableServiceClient

from pullkeeper.errors import MALFORMED, InvalidRequest, NotInFleet, StorageUnavailable
from pullkeeper.fleet.storage import allow_existing, map_storage_errors
from pullkeeper.model import Cluster, ClusterId, Endpoint, Status

_CLUSTER_COLUMNS: Final = ["PartitionKey", "RowKey", "Document"]
_TRIES: Final = 5
_CONTINUATION_KEY: Final = re.compile(r"[\w!=+/.-]{1,2048}", re.ASCII)
"""A key in the service's continuation token: base64, with its length before it. A row key may be missing."""


@dataclass(frozen=True, slots=True)
class Member:
    """A cluster as it was onboarded, and the API server's address at that time."""

    cluster: Cluster
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class StoredStatus:
    """A status and the ETag under which it was read."""

    status: Status
    etag: str


class Fleet:
    """The tables. Every method raises StorageUnavailable."""

    def __init__(self, tables: TableServiceClient, trusted_hosts: frozenset[str]) -> None:
        self._service = tables
        self._trusted_hosts = trusted_hosts
        self._tables: dict[str, TableClient] = {}

    async def register(self, member: Member) -> None:
        """Add a cluster, or replace what it was onboarded with."""
        entity = {
            **entity_keys(member.cluster.cluster),
            "Document": member.cluster.to_json(),
            "Endpoint": member.endpoint.to_json(),
        }
        table = await self._table("clusters")
        async with map_storage_errors("tables"):
            await table.upsert_entity(entity, mode=UpdateMode.REPLACE)

    async def remove(self, cluster: ClusterId) -> None:
        """Remove a cluster, so that nothing refreshes it any more. The scheduler removes its status."""
        await self._delete("clusters", cluster)

    async def member(self, cluster: ClusterId) -> Member:
        """Raises NotInFleet; InvalidRequest for an entity that was edited into an invalid one."""
        table = await self._table("clusters")
        keys = entity_keys(cluster)
        try:
            async with map_storage_errors("tables"):
                entity = await table.get_entity(keys["PartitionKey"], keys["RowKey"])
        except ResourceNotFoundError:
            raise NotInFleet("the cluster is not in the fleet", {"cluster": str(cluster)}) from None
        return Member(self._parse_cluster(entity), Endpoint.parse(entity.get("Endpoint")))

    async def clusters(self) -> AsyncIterator[tuple[ClusterId, Cluster | None]]:
        """Yield all clusters, read page by page. None stands for an entity that cannot be read (edited by hand, or its
        host is no longer trusted): it must not hide the others, and its refresh reports what is wrong.
        """
        async for entity in self._entities("clusters", _CLUSTER_COLUMNS):
            yield self._parse_row(entity)

    async def page(
        self, continuation: str | None, size: int
    ) -> tuple[list[tuple[ClusterId, Cluster | None]], str | None]:
        """Return up to `size` clusters, and the continuation of the next page. Raises InvalidRequest for a continuation
        that is none.
        """
        table = await self._table("clusters")
        start = cast("Any", _decode_continuation(continuation))
        pages = table.list_entities(results_per_page=size, select=_CLUSTER_COLUMNS).by_page(start)
        clusters = []
        async with map_storage_errors("tables"):
            async for page in pages:
                clusters = [self._parse_row(entity) async for entity in page]
                break
        return clusters, _encode_continuation(pages.continuation_token)  # type: ignore[attr-defined]

    async def statuses(self) -> AsyncIterator[StoredStatus]:
        """Yield all statuses, read page by page."""
        async for entity in self._entities("status", None):
            yield _parse_status(entity)

    async def status(self, cluster: ClusterId) -> StoredStatus | None:
        table = await self._table("status")
        keys = entity_keys(cluster)
        try:
            async with map_storage_errors("tables"):
                return _parse_status(await table.get_entity(keys["PartitionKey"], keys["RowKey"]))
        except ResourceNotFoundError:
            return None

    async def save(self, status: Status, etag: str | None) -> bool:
        """Write a status under the ETag it was read with; None creates it. False: it was changed since, nothing was
        written.
        """
        table = await self._table("status")
        entity = {**entity_keys(status.cluster), "NextDue": status.next_due, "Document": status.to_json()}
        try:
            async with map_storage_errors("tables"):
                if etag is None:
                    await table.create_entity(entity)
                else:
                    await table.update_entity(
                        entity, mode=UpdateMode.REPLACE, etag=etag, match_condition=MatchConditions.IfNotModified
                    )
        except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError):
            return False
        return True

    async def update(self, cluster: ClusterId, change: Callable[[Status | None], Status]) -> Status:
        """Read, change and write a status; again if another writer changed it meanwhile."""
        for _ in range(_TRIES):
            stored = await self.status(cluster)
            changed = change(stored.status if stored else None)
            if await self.save(changed, stored.etag if stored else None):
                return changed
        raise StorageUnavailable(f"the status was changed by others {_TRIES} times in a row", {"cluster": str(cluster)})

    async def forget(self, cluster: ClusterId) -> None:
        """Remove the status of a cluster that has left."""
        await self._delete("status", cluster)

    async def _delete(self, name: str, cluster: ClusterId) -> None:
        table = await self._table(name)
        async with map_storage_errors("tables"):
            await table.delete_entity(entity_keys(cluster))

    def _parse_row(self, entity: Any) -> tuple[ClusterId, Cluster | None]:
        try:
            return _parse_keys(entity), self._parse_cluster(entity)
        except InvalidRequest:
            return _parse_keys(entity), None

    def _parse_cluster(self, entity: Any) -> Cluster:
        return Cluster.parse(entity.get("Document"), trusted_hosts=self._trusted_hosts)

    async def _entities(self, name: str, select: list[str] | None) -> AsyncIterator[Any]:
        table = await self._table(name)
        pages = table.list_entities(results_per_page=1000, select=select).by_page()
        while True:
            async with map_storage_errors("tables"):
                page = await anext(pages, None)
                entities = [entity async for entity in page] if page else None
            if entities is None:
                return
            for entity in entities:
                yield entity

    async def _table(self, name: str) -> TableClient:
        if name not in self._tables:
            table = self._service.get_table_client(name)
            async with map_storage_errors("tables"):
                with allow_existing():
                    await table.create_table()
            self._tables[name] = table
        return self._tables[name]


def entity_keys(cluster: ClusterId) -> dict[str, str]:
    return {"PartitionKey": cluster.subscription, "RowKey": f"{cluster.resource_group}|{cluster.name}"}


def _parse_keys(entity: Any) -> ClusterId:
    """Read a cluster's id from the keys, without validation: a row that was edited by hand must not hide the others."""
    group, _, name = entity["RowKey"].partition("|")
    return ClusterId(entity["PartitionKey"], group, name)


def _parse_status(entity: Any) -> StoredStatus:
    """A status that cannot be read is replaced by one that is due: the next refresh finds out again what it said."""
    try:
        status = Status.parse(entity.get("Document"))
    except InvalidRequest:
        status = Status(cluster=_parse_keys(entity), next_due=datetime.min.replace(tzinfo=UTC))
    return StoredStatus(status, entity.metadata["etag"])


def _encode_continuation(token: Any) -> str | None:
    """Encode the service's continuation token for a URL."""
    return base64.urlsafe_b64encode(json.dumps(token).encode()).decode() if token else None


def _decode_continuation(continuation: str | None) -> dict[str, str | None] | None:
    if continuation is None:
        return None
    with suppress(*MALFORMED):
        token = json.loads(base64.urlsafe_b64decode(continuation))
        keys = {name: token[name] for name in ("PartitionKey", "RowKey")}
        if all(key is None or _CONTINUATION_KEY.fullmatch(key) for key in keys.values()):
            return keys
    raise InvalidRequest("continuation: must be what the page before gave")
