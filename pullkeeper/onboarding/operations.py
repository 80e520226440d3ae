"""Table `operations`: each onboarding and offboarding with its steps, and which of them is a cluster's last one.

An operation is found by its id. A cluster's entity points to its last operation, so that two at once for one cluster
cannot be: whoever points first runs, under the ETag of what was there before. It also points to the onboardings since
the cluster was last offboarded, but those that were dry runs: what offboarding has to undo.
"""

import json
import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient, TableServiceClient

from pullkeeper.errors import NotInFleet, OperationRunning
from pullkeeper.fleet.table import entity_keys, mapped
from pullkeeper.model import ClusterId
from pullkeeper.onboarding.documents import ENDED, Onboarding, Operation

_ABANDONED: Final = timedelta(minutes=45)
"""An operation that has not moved for so long has lost its message: longer than all tries of the queue together."""
_OPERATION: Final = "operation"
_OF_A_HUB: Final = frozenset({"hub", "credentialConfig", "registries", "probe"})
_LONGEST: Final = 30_000
"""Characters in one property: Azure takes 32 Ki. Manifests that are handed out can be longer."""


@dataclass(frozen=True, slots=True)
class Job:
    """An operation and the request that it carries out, as JSON: settings may have changed since it was accepted.

    writer: whoever read it; of two the other one's writes are known by that.
    """

    operation: Operation
    request: str
    etag: str
    writer: str = field(default_factory=lambda: uuid.uuid4().hex)


class Overtaken(Exception):
    """Somebody else has written the operation since it was read: the queue has given it to two."""


class Operations:
    """Raises StorageUnavailable when the table cannot be reached."""

    def __init__(self, tables: TableServiceClient, trusted_hosts: frozenset[str]) -> None:
        self._service = tables
        self._trusted_hosts = trusted_hosts
        self._opened: TableClient | None = None

    async def begin(
        self, operation: Operation, request: Onboarding, now: datetime, *, undoes_its_own: bool = False
    ) -> Job:
        """Make it the cluster's operation. Raises OperationRunning, naming the one that runs.

        undoes_its_own: an offboarding that has to undo what its own request says, because nobody knows better.
        """
        table, cluster = await self._table(), operation.cluster
        held = await self._entity(*entity_keys(cluster).values())
        found = await self._entity(_OPERATION, held["Operation"]) if held else None
        last = Operation.parse(_joined(found)) if found else None
        if last and last.status not in ENDED and now - last.updated_at < _ABANDONED:
            raise _running(last.id, cluster)
        job = Job(operation, request.to_json(), "")
        with mapped():
            made = await table.upsert_entity(_entity(job), mode=UpdateMode.REPLACE)
        listed = [operation.id] if undoes_its_own else await self._listed(last, operation, request)
        pointer = {**entity_keys(cluster), **(held or {}), "Operation": operation.id, "Onboardings": ",".join(listed)}
        await self._point(pointer, held, operation)
        return replace(job, etag=made["etag"])

    async def save(self, job: Job) -> Job:
        """Write an operation down as it is now. Raises Overtaken."""
        table = await self._table()
        for _ in range(2):
            try:
                with mapped():
                    written = await table.update_entity(
                        _entity(job),
                        mode=UpdateMode.REPLACE,
                        etag=job.etag,
                        match_condition=MatchConditions.IfNotModified,
                    )
                return replace(job, etag=written["etag"])
            except (ResourceModifiedError, ResourceNotFoundError):
                found = await self._entity(_OPERATION, job.operation.id)
                # A write whose answer was lost is there all the same.
                if found is None or found.get("Writer") != job.writer:
                    break
                job = replace(job, etag=found.metadata["etag"])
        raise Overtaken

    async def job(self, operation: str) -> Job:
        """Raises NotInFleet for an operation that nobody began."""
        found = await self._entity(_OPERATION, operation)
        if found is None:
            raise NotInFleet("there is no such operation")
        return Job(Operation.parse(_joined(found)), found["Request"], found.metadata["etag"])

    def request(self, job: Job) -> Onboarding:
        """Raises InvalidRequest for what the settings no longer allow."""
        return Onboarding.parse(job.request, trusted_hosts=self._trusted_hosts)

    async def last(self, cluster: ClusterId) -> Operation | None:
        held = await self._entity(*entity_keys(cluster).values())
        found = await self._entity(_OPERATION, held["Operation"]) if held else None
        return Operation.parse(_joined(found)) if found else None

    async def onboardings(self, cluster: ClusterId) -> list[tuple[Operation, Onboarding]]:
        """What the cluster was asked to become since it was last offboarded, the last of each kind, the newest last; or
        the offboarding that knew it from the fleet alone. Without their hubs: nobody needs those to undo it, and they
        may not be allowed any more.
        """
        held = await self._entity(*entity_keys(cluster).values())
        listed = held.get("Onboardings", "").split(",") if held else []
        found = [await self._entity(_OPERATION, identifier) for identifier in listed if identifier]
        return [(Operation.parse(_joined(entity)), _without_hub(entity["Request"])) for entity in found if entity]

    async def _listed(self, last: Operation | None, operation: Operation, request: Onboarding) -> list[str]:
        """Ids of the operations that offboarding will have to undo."""
        earlier = [] if last and _took_all_away(last) else await self.onboardings(operation.cluster)
        if operation.kind == "offboard" or operation.dry_run:
            return [one.id for one, _ in earlier]
        return [*(one.id for one, asked in earlier if asked.traces != request.traces), operation.id]

    async def _point(self, pointer: dict[str, str], held: Any, operation: Operation) -> None:
        table, cluster = await self._table(), operation.cluster
        try:
            with mapped():
                if held is None:
                    await table.create_entity(pointer)
                else:
                    await table.update_entity(
                        pointer,
                        mode=UpdateMode.REPLACE,
                        etag=held.metadata["etag"],
                        match_condition=MatchConditions.IfNotModified,
                    )
        except (ResourceExistsError, ResourceModifiedError):
            now = await self._entity(*entity_keys(cluster).values())
            if now and now["Operation"] == operation.id:
                return  # the SDK wrote again, because an answer was lost
            with mapped():
                await table.delete_entity(_OPERATION, operation.id)
            raise _running(now["Operation"] if now else "?", cluster) from None

    async def _entity(self, partition_key: str, row_key: str) -> Any:
        table = await self._table()
        try:
            with mapped():
                return await table.get_entity(partition_key, row_key)
        except ResourceNotFoundError:
            return None

    async def _table(self) -> TableClient:
        if self._opened is None:
            with mapped():
                self._opened = await self._service.create_table_if_not_exists("operations")
        return self._opened


def _entity(job: Job) -> dict[str, str]:
    operation, document = job.operation, job.operation.to_json()
    parts = {f"Document{at // _LONGEST}": document[at : at + _LONGEST] for at in range(0, len(document), _LONGEST)}
    keys = {"PartitionKey": _OPERATION, "RowKey": operation.id}
    return {**keys, "Status": operation.status, **parts, "Request": job.request, "Writer": job.writer}


def _joined(entity: Any) -> str:
    parts = sorted((name for name in entity if name.startswith("Document")), key=lambda name: int(name[8:]))
    return "".join(entity[name] for name in parts)


def _without_hub(request: str) -> Onboarding:
    return Onboarding.parse({key: value for key, value in json.loads(request).items() if key not in _OF_A_HUB})


def _took_all_away(last: Operation) -> bool:
    """Whether there is nothing of ours any more: an offboarding that kept nothing and was refused nothing."""
    ended = last.kind == "offboard" and last.status == "Succeeded" and not (last.keep_workload or last.dry_run)
    return ended and last.result is not None and last.result.complete


def _running(operation: str, cluster: ClusterId) -> OperationRunning:
    return OperationRunning(
        f"operation {operation} is under way for this cluster",
        {"cluster": str(cluster), "operation": f"/api/operations/{operation}"},
    )
