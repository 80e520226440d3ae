"""The table `shards`: a row per non-empty shard, with when it is due, totals as of its last run, and how each of its
clusters is. All of it is written under one ETag, with one call per run. The row `run` says when the scheduler ran.

The scheduler reads the rows without the statuses, at a cost that does not grow with the fleet.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient, TableServiceClient

from pullkeeper.errors import InvalidRequest, StorageUnavailable, UnknownFormat
from pullkeeper.fleet.mint_table import HUBS, read_hub
from pullkeeper.fleet.queues import FORMAT
from pullkeeper.fleet.shards import Shard, shard_of
from pullkeeper.fleet.status import NEVER, UNKNOWN, Status, pack, unpack
from pullkeeper.fleet.storage import map_storage_errors, open_table
from pullkeeper.mints import MintRecord
from pullkeeper.model import ClusterId

_SHARDS, _RUNS, _RUN = "shard", "run", "schedule"
_LIFE: Final = timedelta(hours=1)
_COLUMN: Final = 64 * 1024  # bytes; the service's limit of a property
_LARGEST: Final = 15 * _COLUMN  # bytes of statuses; the service's limit of a row is 1 MiB
_TRIES: Final = 5
_TOTALS: Final = [
    "PartitionKey",
    "RowKey",
    "Format",
    "NextDue",
    "LifeSeconds",
    "Clusters",
    "States",
    "ReportedAt",
    "At",
    "LookedAt",
    "Record",
]


@dataclass(frozen=True, slots=True)
class ShardState:
    """A shard as of its last run.

    next_due: of the first of its targets. life: the shortest of its tokens. states: how many targets are in each state.
    reported_at: when all its targets were last reported. known: False for a row of a format that this code cannot read.
    """

    shard: Shard
    etag: str | None = None
    next_due: datetime = NEVER
    life: timedelta = _LIFE
    clusters: int = 0
    states: Mapping[str, int] = field(default_factory=dict)
    reported_at: datetime = NEVER
    statuses: Mapping[ClusterId, Status] = field(default_factory=dict)
    known: bool = True

    def status(self, cluster: ClusterId) -> Status:
        """Return the status of a cluster; one that was never tried is due."""
        return self.statuses.get(cluster, UNKNOWN)


@dataclass(frozen=True, slots=True)
class Totals:
    """All shards, without the statuses; when the scheduler last ran, and when it last looked for rows that are lost.

    hubs: by identity; None for a row of a format that this code cannot read.
    """

    shards: tuple[ShardState, ...]
    last_run: datetime | None
    looked_at: datetime
    hubs: Mapping[str, MintRecord | None]

    @property
    def clusters(self) -> int:
        return sum(shard.clusters for shard in self.shards)

    def overdue(self, now: datetime) -> int:
        """Return how many shards no run has refreshed within the longest tick after their time."""
        return sum(shard.known and now - shard.next_due > shard.life / 12 for shard in self.shards)

    @property
    def states(self) -> Counter[str]:
        """Return how many targets of the fleet are in each state."""
        return sum((Counter(shard.states) for shard in self.shards), Counter())


class Shards:
    """Every method raises StorageUnavailable when the table cannot be reached."""

    def __init__(self, tables: TableServiceClient) -> None:
        self._service = tables
        self._table: TableClient | None = None

    async def totals(self) -> Totals:
        """Read all rows, without the statuses."""
        table = await self._open()
        shards, last_run, looked_at, hubs = [], None, NEVER, {}
        async with map_storage_errors("tables"):
            async for entity in table.list_entities(select=_TOTALS):
                if entity["PartitionKey"] == _SHARDS:
                    shards.append(_state(entity))
                elif entity["PartitionKey"] == _RUNS:
                    last_run, looked_at = entity.get("At"), _time(entity.get("LookedAt"))
                elif entity["PartitionKey"] == HUBS:
                    hubs[entity["RowKey"]] = read_hub(entity)
        return Totals(tuple(shards), last_run, looked_at, hubs)

    async def read(self, shard: Shard) -> ShardState:
        """Return a shard as of its last run; of one that has no row, that it is due."""
        table = await self._open()
        try:
            async with map_storage_errors("tables"):
                return _state(await table.get_entity(_SHARDS, shard))
        except ResourceNotFoundError:
            return ShardState(shard)

    async def read_range(self, first: Shard, last: Shard) -> dict[Shard, ShardState]:
        """Return the shards from first to last, with their statuses, in one query."""
        table = await self._open()
        where = f"PartitionKey eq '{_SHARDS}' and RowKey ge '{first}' and RowKey le '{last}'"
        async with map_storage_errors("tables"):
            return {entity["RowKey"]: _state(entity) async for entity in table.query_entities(where)}

    async def make_due(self, shard: Shard, now: datetime) -> None:
        """Have the next tick refresh what is due in a shard: a cluster has joined it."""
        table = await self._open()
        entity = {"PartitionKey": _SHARDS, "RowKey": shard, "NextDue": now}
        try:
            async with map_storage_errors("tables"):
                await table.update_entity(entity, mode=UpdateMode.MERGE)
        except ResourceNotFoundError:
            await self.save(ShardState(shard, next_due=now))

    async def forget(self, cluster: ClusterId) -> None:
        """Drop the status of a cluster that has left."""

        def drop(state: ShardState) -> ShardState:
            return replace(state, statuses={id_: one for id_, one in state.statuses.items() if id_ != cluster})

        await self.update(shard_of(cluster), drop)

    async def update(self, shard: Shard, change: Callable[[ShardState], ShardState]) -> ShardState:
        """Read, change, write, and again when another writer was quicker. Raises UnknownFormat for a row that must not
        be overwritten.
        """
        for _ in range(_TRIES):
            if changed := await self.save(change(await self.read(shard))):
                return changed
        raise StorageUnavailable(f"the row of shard {shard} was changed by others {_TRIES} times in a row")

    async def save(self, state: ShardState) -> ShardState | None:
        """Write a shard under the ETag that it was read with, and return it with its new one. None: it changed, and
        nothing was written. Raises UnknownFormat for a row that must not be overwritten.
        """
        if not state.known:
            raise UnknownFormat(f"the row of shard {state.shard} in the table shards")
        entity = _entity(state)  # seconds, for 25,000 targets: before a connection is opened that would be idle
        table = await self._open()
        try:
            async with map_storage_errors("tables"):
                if state.etag is None:
                    written = await table.create_entity(entity)
                else:
                    written = await table.update_entity(
                        entity, mode=UpdateMode.REPLACE, etag=state.etag, match_condition=MatchConditions.IfNotModified
                    )
        except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError):
            return None
        return replace(state, etag=written["etag"])

    async def record_run(self, now: datetime, looked_at: datetime) -> None:
        """Write down that the scheduler ran, and when it last looked for rows that are lost."""
        table = await self._open()
        async with map_storage_errors("tables"):
            await table.upsert_entity(
                {"PartitionKey": _RUNS, "RowKey": _RUN, "At": now, "LookedAt": looked_at}, mode=UpdateMode.REPLACE
            )

    async def _open(self) -> TableClient:
        if self._table is None:
            self._table = await open_table(self._service, "shards")
        return self._table


def _entity(state: ShardState) -> dict[str, Any]:
    packed = pack(state.statuses)
    if len(packed) > _LARGEST:
        packed = pack({cluster: _without_texts(status) for cluster, status in state.statuses.items()})
    return {
        "PartitionKey": _SHARDS,
        "RowKey": state.shard,
        "Format": FORMAT,
        "NextDue": state.next_due,
        "LifeSeconds": state.life.total_seconds(),
        "Clusters": state.clusters,
        "States": json.dumps(dict(state.states)),
        "ReportedAt": state.reported_at,
        **{f"Status{n}": packed[n * _COLUMN : (n + 1) * _COLUMN] for n in range(-(-len(packed) // _COLUMN))},
    }


def _without_texts(status: Status) -> Status:
    """Keep category and times, where thousands of failures, each with a text of its own, do not fit into a row."""
    plain = {"detail": None, "remedy": None, "note": None}
    targets = {name: target.model_copy(update=plain) for name, target in status.targets.items()}
    return status.model_copy(update={"targets": targets})


def _state(entity: Any) -> ShardState:
    """Read a row. What cannot be read is as in a row that was never written: due, so that a run writes it again."""
    etag = entity.metadata["etag"]
    shard = entity["RowKey"]
    if entity.get("Format") != FORMAT:
        return ShardState(shard, etag, known=False)
    try:
        return ShardState(
            shard,
            etag,
            next_due=_time(entity.get("NextDue")),
            life=timedelta(seconds=float(entity.get("LifeSeconds"))),
            clusters=int(entity.get("Clusters")),
            states={str(name): int(n) for name, n in json.loads(entity.get("States")).items()},
            reported_at=_time(entity.get("ReportedAt")),
            statuses=_statuses(entity),
        )
    except (ValueError, TypeError, AttributeError, OverflowError, InvalidRequest):
        return ShardState(shard, etag)


def _statuses(entity: Mapping[str, Any]) -> dict[ClusterId, Status]:
    parts: list[bytes] = []
    while part := entity.get(f"Status{len(parts)}"):
        parts.append(part)
    return unpack(b"".join(parts)) if parts else {}


def _time(value: Any) -> datetime:
    return value if isinstance(value, datetime) else NEVER
