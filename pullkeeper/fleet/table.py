"""Who is in the fleet and how each one is: two tables, so that no two writers share an entity.

`clusters` is written when a cluster joins or leaves, `status` by scheduler and refresher. PartitionKey is the
subscription, RowKey `resource group|name`. An entity holds its document as JSON beside what a person wants to see in
a table browser. Writes are conditional on the ETag that was read.
"""

import base64
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient, TableServiceClient

from pullkeeper.errors import NONSENSE, InvalidRequest, NotInFleet, StorageUnavailable
from pullkeeper.model import Cluster, ClusterId, Endpoint, Status

_LISTED: Final = ["PartitionKey", "RowKey", "Document"]
_TRIES: Final = 5
_CONTINUED: Final = re.compile(r"[\w!=+/.-]{1,2048}", re.ASCII)
"""What the service writes where the next page begins: base64, with its length before it. A row key may be missing."""


@dataclass(frozen=True, slots=True)
class Member:
    """A cluster as it was onboarded, with the API server's address of then."""

    cluster: Cluster
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class Versioned:
    """A status and the ETag under which it was read; etag None: it is to be made."""

    status: Status
    etag: str | None


class Fleet:
    """The tables. Every method raises StorageUnavailable when they cannot be reached."""

    def __init__(self, tables: TableServiceClient, trusted_hosts: frozenset[str]) -> None:
        self._service = tables
        self._trusted_hosts = trusted_hosts
        self._tables: dict[str, TableClient] = {}

    async def register(self, member: Member) -> None:
        """Let a cluster join, or change what it was onboarded with."""
        entity = {
            **entity_keys(member.cluster.cluster),
            "Document": member.cluster.to_json(),
            "Endpoint": member.endpoint.to_json(),
        }
        table = await self._table("clusters")
        with mapped():
            await table.upsert_entity(entity, mode=UpdateMode.REPLACE)

    async def remove(self, cluster: ClusterId) -> None:
        """Let a cluster leave, so that nothing refreshes it any more. The scheduler clears its status away."""
        await self._delete("clusters", cluster)

    async def member(self, cluster: ClusterId) -> Member:
        """Raises NotInFleet; InvalidRequest for an entity that somebody edited into something else."""
        table = await self._table("clusters")
        keys = entity_keys(cluster)
        try:
            with mapped():
                entity = await table.get_entity(keys["PartitionKey"], keys["RowKey"])
        except ResourceNotFoundError:
            raise NotInFleet("the cluster is not in the fleet", {"cluster": str(cluster)}) from None
        return Member(self._cluster(entity), Endpoint.parse(entity.get("Endpoint")))

    async def clusters(self) -> AsyncIterator[tuple[ClusterId, Cluster | None]]:
        """All of them, page by page. None for an entity that cannot be read (a host no longer trusted, a row that
        somebody edited): it must not hide the others, and its refresh will say what is wrong.
        """
        async for entity in self._listed("clusters", _LISTED):
            yield self._row(entity)

    async def page(
        self, continuation: str | None, size: int
    ) -> tuple[list[tuple[ClusterId, Cluster | None]], str | None]:
        """Up to `size` clusters, and what to continue with. Raises InvalidRequest for a continuation that is none."""
        table = await self._table("clusters")
        pages = table.list_entities(results_per_page=size, select=_LISTED).by_page(cast("Any", _unpacked(continuation)))
        found = []
        with mapped():
            async for page in pages:
                found = [self._row(entity) async for entity in page]
                break
        return found, _packed(pages.continuation_token)  # type: ignore[attr-defined]

    async def statuses(self) -> AsyncIterator[Versioned]:
        """All of them, page by page."""
        async for entity in self._listed("status", None):
            yield _versioned(entity)

    async def status(self, cluster: ClusterId) -> Versioned | None:
        table = await self._table("status")
        keys = entity_keys(cluster)
        try:
            with mapped():
                return _versioned(await table.get_entity(keys["PartitionKey"], keys["RowKey"]))
        except ResourceNotFoundError:
            return None

    async def save(self, status: Status, etag: str | None) -> bool:
        """Write a status under the ETag it was read with. False: somebody was quicker, and nothing was written."""
        table = await self._table("status")
        entity = {**entity_keys(status.cluster), "NextDue": status.next_due, "Document": status.to_json()}
        try:
            with mapped():
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
        """Read, change, write; again when somebody was quicker."""
        for _ in range(_TRIES):
            held = await self.status(cluster)
            changed = change(held.status if held else None)
            if await self.save(changed, held.etag if held else None):
                return changed
        raise StorageUnavailable(f"the status was changed by others {_TRIES} times in a row", {"cluster": str(cluster)})

    async def forget(self, cluster: ClusterId) -> None:
        """Drop the status of a cluster that has left."""
        await self._delete("status", cluster)

    async def _delete(self, name: str, cluster: ClusterId) -> None:
        table = await self._table(name)
        with mapped():
            await table.delete_entity(entity_keys(cluster))

    def _row(self, entity: Any) -> tuple[ClusterId, Cluster | None]:
        try:
            return _named(entity), self._cluster(entity)
        except InvalidRequest:
            return _named(entity), None

    def _cluster(self, entity: Any) -> Cluster:
        return Cluster.parse(entity.get("Document"), trusted_hosts=self._trusted_hosts)

    async def _listed(self, name: str, select: list[str] | None) -> AsyncIterator[Any]:
        table = await self._table(name)
        with mapped():
            async for entity in table.list_entities(results_per_page=1000, select=select):
                yield entity

    async def _table(self, name: str) -> TableClient:
        if name not in self._tables:
            with mapped():
                self._tables[name] = await self._service.create_table_if_not_exists(name)
        return self._tables[name]


def _packed(token: Any) -> str | None:
    """A continuation for an address: opaque to whoever gets it."""
    return base64.urlsafe_b64encode(json.dumps(token).encode()).decode() if token else None


def _unpacked(continuation: str | None) -> dict[str, str | None] | None:
    if continuation is None:
        return None
    with suppress(*NONSENSE):
        token = json.loads(base64.urlsafe_b64decode(continuation))
        keys = {name: token[name] for name in ("PartitionKey", "RowKey")}
        if all(key is None or _CONTINUED.fullmatch(key) for key in keys.values()):
            return keys
    raise InvalidRequest("continuation: must be what the page before gave")


def entity_keys(cluster: ClusterId) -> dict[str, str]:
    return {"PartitionKey": cluster.subscription, "RowKey": f"{cluster.resource_group}|{cluster.name}"}


def _named(entity: Any) -> ClusterId:
    """By its keys, which may be anything that somebody typed."""
    group, _, name = entity["RowKey"].partition("|")
    return ClusterId(entity["PartitionKey"], group, name)


def _versioned(entity: Any) -> Versioned:
    """A status that cannot be read is one that is due: the next refresh finds out anew what it said."""
    try:
        status = Status.parse(entity.get("Document"))
    except InvalidRequest:
        status = Status(cluster=_named(entity), next_due=datetime.min.replace(tzinfo=UTC))
    return Versioned(status, entity.metadata["etag"])


@contextmanager
def mapped() -> Iterator[None]:
    """Found, gone and changed are answers; everything else means that the storage account is not there for us."""
    try:
        yield
    except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError):
        raise
    except AzureError as e:
        raise StorageUnavailable(f"tables: {type(e).__name__}: {e.message}") from None
