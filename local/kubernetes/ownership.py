"""Who owns which field (`metadata.managedFields`): server-side apply with conflicts, and the records of other writes.

https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from local.kubernetes import fields, typed
from local.kubernetes.fields import NOTHING, FieldSet
from local.kubernetes.kinds import Kind

Json = dict[str, Any]

# The server fills these in; they have no owner.
_META = ("name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields", "resourceVersion")
_UNOWNED: Final[FieldSet] = frozenset(
    {("f:apiVersion",), ("f:kind",), ("f:metadata",)} | {("f:metadata", f"f:{name}") for name in _META}
)
BEFORE_FIRST_APPLY: Final = "before-first-apply"


class OwnershipConflict(Exception):
    """An apply without force would change fields of others. conflicts: writer and path of each field."""

    def __init__(self, conflicts: list[tuple["Writer", str]]) -> None:
        super().__init__(conflicts)
        self.conflicts = conflicts


@dataclass(frozen=True, slots=True)
class Writer:
    """One line of managedFields without its content. operation: Apply or Update."""

    name: str
    operation: str
    api_version: str

    def render(self) -> str:
        """As a conflict names it: an applier by name alone, any other with the version that it wrote."""
        return f'"{self.name}"' if self.operation == "Apply" else f'"{self.name}" using {self.api_version}'


@dataclass(frozen=True, slots=True)
class Share:
    owned: FieldSet
    since: str | None


Shares = dict[Writer, Share]


def read(managed: list[Json] | None) -> Shares:
    """Raises ValueError for entries that are none, and for those of subresources."""
    shares: Shares = {}
    for entry in managed or ():
        writer = Writer(entry["manager"], entry["operation"], entry["apiVersion"])
        if writer.operation not in ("Apply", "Update") or "subresource" in entry or writer in shares:
            raise ValueError(f"an entry of managedFields that is not played: {writer}")
        shares[writer] = Share(fields.decode(entry.get("fieldsV1") or {}), entry.get("time"))
    return shares


def encode(shares: Shares) -> list[Json]:
    """`managedFields`, in the server's order."""

    def order(item: tuple[Writer, Share]) -> tuple[str, str, str, str]:
        writer, share = item
        return (writer.operation, share.since or "", writer.name, writer.api_version)

    entries = []
    for writer, share in sorted(shares.items(), key=order):
        entry: Json = {"manager": writer.name, "operation": writer.operation, "apiVersion": writer.api_version}
        if share.since:
            entry["time"] = share.since
        entries.append(entry | {"fieldsType": "FieldsV1", "fieldsV1": fields.encode(share.owned)})
    return entries


def stamp(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def update(kind: Kind, manager: str, live: Json, new: Json, shares: Shares, *, now: datetime) -> Shares:
    """The shares after a POST or a plain PATCH: the writer takes what it added or changed; what it removed has no
    owner.
    """
    writer = Writer(manager, "Update", kind.api_version)
    difference = typed.compare(kind.type, live, new)
    changed = difference.added | difference.modified
    after = _without(shares, changed | difference.removed, but=writer)
    before = after.get(writer, Share(NOTHING, None))
    taken = _ownable(kind, changed)
    owned = (before.owned - difference.removed) | taken
    if taken:
        after[writer] = Share(owned, stamp(now))
    elif owned:
        after[writer] = Share(owned, before.since)
    else:
        after.pop(writer, None)
    return after


def apply(
    kind: Kind, manager: str, live: Json, config: Json, shares: Shares, *, forced: bool, now: datetime
) -> tuple[Json, Shares]:
    """Server-side apply: the new object and shares.

    What the writer applied before and leaves out now is removed, unless it has another owner. Raises
    OwnershipConflict, with one entry for each field that another writer owns and this one would change, unless forced.
    """
    writer = Writer(manager, "Apply", kind.api_version)
    last = shares.get(writer)
    others = {one: share for one, share in shares.items() if one != writer}
    merged = typed.merge(kind.type, live, config)
    applied = typed.field_set(kind.type, config)
    owned = _ownable(kind, applied)
    if last:
        everyone = applied.union(*(share.owned for share in others.values()))
        merged = _prune(kind, merged, last.owned, everyone)
    difference = typed.compare(kind.type, live, merged)
    changed = difference.added | difference.modified
    if not forced:
        _check_conflicts({one: share.owned & changed for one, share in others.items()})
    after = _without(others, changed | difference.removed)
    if owned:
        # A write that changes nothing has no time of its own: a new co-owner of equal values appears without one.
        since = stamp(now) if merged != live else (last.since if last else None)
        after[writer] = Share(owned, since)
    return merged, after


def _ownable(kind: Kind, paths: Iterable[fields.Path]) -> FieldSet:
    status = kind.has_status
    return frozenset(path for path in paths if path not in _UNOWNED and not (status and path[0] == "f:status"))


def _prune(kind: Kind, merged: Json, last: FieldSet, everyone: FieldSet) -> Json:
    dropped = typed.with_parents(kind.type, last) - typed.with_parents(kind.type, everyone)
    if not dropped:
        return merged
    pruned = typed.remove(kind.type, merged, dropped)
    return {} if pruned is typed.ABSENT else pruned


def _without(shares: Shares, paths: FieldSet, but: Writer | None = None) -> Shares:
    after = {}
    for writer, share in shares.items():
        rest = share if writer == but else replace(share, owned=share.owned - paths)
        if rest.owned:
            after[writer] = rest
    return after


def _check_conflicts(conflicts: dict[Writer, FieldSet]) -> None:
    found = [(writer, fields.render(path)) for writer, paths in conflicts.items() for path in fields.in_order(paths)]
    if found:
        raise OwnershipConflict(found)
