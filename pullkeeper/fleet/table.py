"""The table `fleet`: a row per cluster, written by onboarding. PartitionKey is the shard, so that one query reads it;
RowKey is `subscription|resource group|name`. How the clusters are stands in the table `shards`.

`Format` is the version of a row. One that this code does not know is not read and not overwritten, so that an upgrade
and a rollback lose nothing. A document is cut into columns, because a property holds 64 KiB of UTF-16.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient, TableServiceClient

from pullkeeper.errors import InvalidRequest, NotInFleet, PullkeeperError, UnknownFormat
from pullkeeper.fleet.queues import FORMAT
from pullkeeper.fleet.shard_table import Shards
from pullkeeper.fleet.shards import Shard, shard_of
from pullkeeper.fleet.storage import map_storage_errors, open_table
from pullkeeper.model import Cluster, ClusterId, Endpoint

_COLUMN: Final = 32_000  # characters: 64 KiB in UTF-16
_PAGE: Final = 1000  # rows; the service's limit
_EVERYTHING: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Member:
    """A cluster as it was onboarded, with the API server's address of that time. identity: the object id of its managed
    identity, where the publisher has to trust that.
    """

    cluster: Cluster
    endpoint: Endpoint
    identity: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A cluster's row. fault: why it cannot be read; then member is None."""

    id: ClusterId
    member: Member | None
    fault: PullkeeperError | None = None


class Fleet:
    """Every method raises StorageUnavailable when the tables cannot be reached."""

    def __init__(
        self,
        tables: TableServiceClient,
        shards: Shards,
        trusted_hosts: frozenset[str],
        clock: Callable[[], datetime],
    ) -> None:
        self._service = tables
        self._shards = shards
        self._trusted_hosts = trusted_hosts
        self._clock = clock
        self._table: TableClient | None = None

    async def register(self, member: Member) -> None:
        """Add a cluster, or change what it was onboarded with; its status stays. Then its shard is due. A crash in
        between is repaired by the operation, which registers again.
        """
        await self.put(member)
        await self._shards.make_due(shard_of(member.cluster.cluster), self._clock())

    async def put(self, member: Member) -> None:
        """Write a cluster's row, and leave the times of its shard to the caller."""
        cluster = member.cluster.cluster
        entity = {
            **entity_keys(cluster),
            "Format": FORMAT,
            **columns("Member", member.cluster.to_json()),
            **columns("Endpoint", member.endpoint.to_json()),
            **({"Identity": member.identity} if member.identity else {}),
        }
        table = await self._open()
        async with map_storage_errors("tables"):
            await table.upsert_entity(entity, mode=UpdateMode.REPLACE)

    async def remove(self, cluster: ClusterId) -> None:
        """Remove a cluster and its status. A cluster that is not there is no error."""
        table = await self._open()
        async with map_storage_errors("tables"):
            await table.delete_entity(entity_keys(cluster))
        await self._shards.forget(cluster)

    async def member(self, cluster: ClusterId) -> Member:
        """Return a cluster as it was onboarded. Raises NotInFleet; what is wrong with a row that cannot be read."""
        table = await self._open()
        keys = entity_keys(cluster)
        try:
            async with map_storage_errors("tables"):
                row = self._row(await table.get_entity(keys["PartitionKey"], keys["RowKey"]))
        except ResourceNotFoundError:
            raise NotInFleet("the cluster is not in the fleet") from None
        if row.member is None:
            raise row.fault or NotInFleet("the row cannot be read")
        return row.member

    async def list_found(self, cluster: ClusterId) -> frozenset[str]:
        """Return the targets (`namespace/secret`) that selectors of a cluster have found, removed ones too."""
        status = (await self._shards.read(shard_of(cluster))).status(cluster)
        return frozenset(name for name, one in status.targets.items() if one.found)

    async def shard(self, shard: Shard) -> list[Row]:
        """Return all rows of a shard, in one query per 1,000."""
        return [row for _, row in await self._range(f"PartitionKey eq '{shard}'", _EVERYTHING)]

    async def shards(self) -> set[Shard]:
        """Return the shards that have clusters: a query per 1,000 of them."""
        table = await self._open()
        async with map_storage_errors("tables"):
            entities = table.list_entities(select=["PartitionKey"], results_per_page=_PAGE)
            return {entity["PartitionKey"] async for entity in entities}

    async def page(self, after: tuple[str, str] | None, size: int) -> list[tuple[tuple[str, str], Row]]:
        """Return up to `size` rows after the given keys (shard and row key), each with its keys, in their order. Two
        range queries where a page reaches into another shard, because the service scans the whole table for an `or`.
        """
        if after is None:
            return await self._range("PartitionKey ge '00'", size)
        shard, key = after
        found = await self._range(f"PartitionKey eq '{shard}' and RowKey gt '{key}'", size)
        if len(found) < size:
            found += await self._range(f"PartitionKey gt '{shard}'", size - len(found))
        return found

    async def trusted_members(self) -> list[Member]:
        """Return the clusters whose own identity the publisher has to trust. Reads the whole table."""
        found = await self._range("Identity gt ''", _EVERYTHING)
        return [row.member for _, row in found if row.member]

    async def _range(self, where: str, size: int) -> list[tuple[tuple[str, str], Row]]:
        found: list[tuple[tuple[str, str], Row]] = []
        table = await self._open()
        async with map_storage_errors("tables"):
            async for entity in table.query_entities(where, results_per_page=min(size, _PAGE)):
                found.append(((entity["PartitionKey"], entity["RowKey"]), self._row(entity)))
                if len(found) == size:
                    break
        return found

    def _row(self, entity: Mapping[str, Any]) -> Row:
        """Read a row. One that cannot be read (a host no longer trusted, a row edited by hand) hides no other."""
        cluster = _id(entity)
        try:
            if entity.get("Format") != FORMAT:
                raise UnknownFormat(f"the row has format {entity.get('Format')}")
            wanted = Cluster.parse(text(entity, "Member"), trusted_hosts=self._trusted_hosts)
            if wanted.cluster != cluster:
                raise InvalidRequest("the row holds another cluster")
            return Row(cluster, Member(wanted, Endpoint.parse(text(entity, "Endpoint")), entity.get("Identity")))
        except PullkeeperError as e:
            return Row(cluster, None, e)

    async def _open(self) -> TableClient:
        if self._table is None:
            self._table = await open_table(self._service, "fleet")
        return self._table


def entity_keys(cluster: ClusterId) -> dict[str, str]:
    """Return the keys of a cluster's row."""
    key = f"{cluster.subscription}|{cluster.resource_group}|{cluster.name}"
    return {"PartitionKey": shard_of(cluster), "RowKey": key}


def _id(entity: Mapping[str, Any]) -> ClusterId:
    """Return the cluster that the keys name; they may be anything that was typed by hand."""
    subscription, _, rest = entity["RowKey"].partition("|")
    group, _, name = rest.partition("|")
    return ClusterId(subscription, group, name)


def columns(name: str, content: str) -> dict[str, Any]:
    """Cut a text into columns."""
    parts = [content[start : start + _COLUMN] for start in range(0, len(content), _COLUMN)]
    return {f"{name}{n}": part for n, part in enumerate(parts)}


def text(entity: Mapping[str, Any], name: str) -> str:
    """Join what `columns` cut."""
    parts: list[str] = []
    while part := entity.get(f"{name}{len(parts)}"):
        parts.append(str(part))
    return "".join(parts)
