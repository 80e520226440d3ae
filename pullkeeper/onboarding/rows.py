"""The rows of operations in table `operations`."""

import json
import secrets
import uuid
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any, Final, Self

from pullkeeper.azure.clusters import ClusterFacts
from pullkeeper.fleet.table import columns, text
from pullkeeper.model import Endpoint
from pullkeeper.onboarding.documents import FINAL_STATUSES, Operation, OperationStatus, OperationSummary

OPERATION: Final = "operation"
"""The partition of all operations."""
_RETENTION: Final = timedelta(days=90)
"""From the end of an operation to its removal, unless its cluster needs it longer."""
_WORKED_ON, _QUEUED = timedelta(minutes=45), timedelta(days=1)
_LAST_MILLISECOND: Final = 16**12 - 1
SUMMARY: Final = ["RowKey", "Kind", "Status", "Cluster", "CreatedAt", "UpdatedAt", "DryRun", "KeepWorkload"]
"""The columns of a summary. A list of operations reads no others."""


def create_operation_id(now: datetime) -> str:
    """Return an id of 32 hexadecimal digits: the time that is left until the year 10889, in milliseconds, and 80 random
    bits. A table returns its rows in the order of their keys, so the newest operation comes first.
    """
    return f"{_time_left(now)}{secrets.token_hex(10)}"


def _time_left(now: datetime) -> str:
    return f"{_LAST_MILLISECOND - int(now.timestamp() * 1000):012x}"


def first_id(began: datetime) -> str:
    """Return an id before those of all operations that began at this time or earlier."""
    return _time_left(began)


def first_expired_id(now: datetime) -> str:
    """Return an id before those of all operations that may have expired: an end is never earlier than a beginning."""
    return first_id(now - _RETENTION)


def ended_partition(status: OperationStatus) -> str:
    """Return the partition of the index of operations with this final status."""
    return f"ended:{status}"


STATE: Final = ["RowKey", "Status", "UpdatedAt", "Due"]


@dataclass(frozen=True, slots=True)
class State:
    """What of an operation says whether it stands still. due: as in StoredOperation."""

    id: str
    status: OperationStatus
    updated_at: datetime
    due: datetime | None

    @classmethod
    def parse(cls, row: Any) -> Self:
        return cls(row["RowKey"], row["Status"], row["UpdatedAt"], row.get("Due"))


@dataclass(frozen=True, slots=True)
class StoredOperation:
    """An operation, and its request as JSON: the settings may have changed since it was accepted.

    turn: the number of the message that continues it; any other finds nothing to do. due: when that message is to
    arrive; None while an invocation works on it. tries: how many have failed. waiting_since: when it first had to wait
    for Azure. turns: the quotas whose next call it may make, because it has waited for that. update_requested: whether
    it has asked Azure to change the cluster. facts, endpoint: what it has read of the cluster, so that a wait does not
    repeat that. principals: object ids of the app's identities to which operations before it gave rights in the
    cluster, since the last offboarding that removed everything. writer: marks this reader's writes.
    """

    operation: Operation
    request: str
    etag: str
    turn: int = 0
    due: datetime | None = None
    tries: int = 0
    waiting_since: datetime | None = None
    turns: frozenset[str] = frozenset()
    update_requested: bool = False
    facts: ClusterFacts | None = None
    endpoint: Endpoint | None = None
    principals: tuple[str, ...] = ()
    writer: str = field(default_factory=lambda: uuid.uuid4().hex)

    def list_principals(self) -> tuple[str, ...]:
        """Return the object ids of all identities that the next operation has to know."""
        result = self.operation.result
        if self.operation.removed_everything:
            return ()
        own = [result.handover.object_id] if result and result.handover else []
        return tuple(dict.fromkeys((*self.principals, *own)))

    def is_abandoned(self, now: datetime) -> bool:
        """Whether it no longer keeps another operation of its cluster from beginning: no invocation works on it, or its
        message has not been found for so long that no queue can be the reason.
        """
        return now - self.operation.updated_at > _WORKED_ON if self.due is None else now - self.due > _QUEUED

    @property
    def kept_until(self) -> datetime | None:
        """When the row may be removed. None while the operation has not ended."""
        ended = self.operation.status in FINAL_STATUSES
        return self.operation.updated_at + _RETENTION if ended else None

    @classmethod
    def parse(cls, row: Any) -> Self:
        return cls(
            operation=parse_operation(row),
            request=text(row, "Request"),
            etag=row.metadata["etag"],
            turn=row["Turn"],
            due=row.get("Due"),
            tries=row["Tries"],
            waiting_since=row.get("WaitingSince"),
            turns=frozenset(filter(None, row.get("Turns", "").split(","))),
            update_requested=row["UpdateRequested"],
            facts=ClusterFacts(**json.loads(facts)) if (facts := text(row, "Facts")) else None,
            endpoint=Endpoint.parse(endpoint) if (endpoint := text(row, "Endpoint")) else None,
            principals=tuple(filter(None, row.get("Principals", "").split(","))),
        )

    def to_summary(self) -> dict[str, Any]:
        """Return the row of the index of ended operations."""
        summary = {name: value for name, value in self.to_entity().items() if name in SUMMARY}
        return {**summary, "PartitionKey": ended_partition(self.operation.status)}

    def to_entity(self) -> dict[str, Any]:
        entity = {
            "PartitionKey": OPERATION,
            "RowKey": self.operation.id,
            "Kind": self.operation.kind,
            "Status": self.operation.status,
            "Cluster": str(self.operation.cluster),
            "CreatedAt": self.operation.created_at,
            "UpdatedAt": self.operation.updated_at,
            "DryRun": self.operation.dry_run,
            "KeepWorkload": self.operation.keep_workload,
            "KeptUntil": self.kept_until,
            **columns("Document", self.operation.to_json()),
            **columns("Request", self.request),
            "Writer": self.writer,
            "Turn": self.turn,
            "Due": self.due,
            "Tries": self.tries,
            "WaitingSince": self.waiting_since,
            "Turns": ",".join(sorted(self.turns)) or None,
            "UpdateRequested": self.update_requested,
            **columns("Facts", _facts_json(self.facts) if self.facts else ""),
            **columns("Endpoint", self.endpoint.to_json() if self.endpoint else ""),
            "Principals": ",".join(self.principals) or None,
        }
        return {name: value for name, value in entity.items() if value is not None}


def _facts_json(facts: ClusterFacts) -> str:
    return json.dumps({one.name: getattr(facts, one.name) for one in fields(facts) if one.name != "document"})


def parse_summary(row: Any) -> OperationSummary:
    return OperationSummary(
        id=row["RowKey"],
        kind=row["Kind"],
        status=row["Status"],
        cluster=row["Cluster"],
        created_at=row["CreatedAt"],
        updated_at=row["UpdatedAt"],
        dry_run=row["DryRun"],
        keep_workload=row["KeepWorkload"],
    )


def parse_operation(row: Any) -> Operation:
    return Operation.parse(text(row, "Document"))
