"""Who owns which field (`metadata.managedFields`): server-side apply with conflicts, and the books of other writes."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from local.kubernetes import fields, status, typed
from local.kubernetes.fields import NOTHING, FieldSet, Path
from local.kubernetes.schema import Type

Json = dict[str, Any]

# Nobody owns these: the server fills them in.
_META = ("name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields", "resourceVersion")
_UNOWNED: FieldSet = frozenset(
    {("f:apiVersion",), ("f:kind",), ("f:metadata",)} | {("f:metadata", f"f:{name}") for name in _META}
)
BEFORE_FIRST_APPLY = "before-first-apply"


@dataclass(frozen=True, slots=True)
class Writer:
    """One line of managedFields without its content."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""

    def render(self) -> str:
        """As a conflict names it: an applier by name alone, any other with the version that it wrote."""
        said = f'"{self.name}"'
        if self.subresource:
            said += f' with subresource "{self.subresource}"'
        return said if self.operation == "Apply" else f"{said} using {self.api_version}"


@dataclass(frozen=True, slots=True)
class Share:
    owned: FieldSet
    since: str | None


Shares = dict[Writer, Share]


@dataclass(frozen=True, slots=True)
class Write:
    """One write to one kind of object: who does it, and what it cannot own (the main resource not its status)."""

    kind: Type
    writer: Writer
    ignored: tuple[Path, ...] = ()

    def own(self, paths: Iterable[Path]) -> FieldSet:
        return frozenset(
            path for path in paths if path not in _UNOWNED and not any(path[: len(out)] == out for out in self.ignored)
        )


def read(managed: list[Json] | None) -> Shares:
    """Raises ValueError for entries that are none."""
    shares: Shares = {}
    for entry in managed or ():
        writer = Writer(
            entry.get("manager", ""),
            entry.get("operation", ""),
            entry.get("apiVersion", ""),
            entry.get("subresource", ""),
        )
        if writer.operation not in ("Apply", "Update"):
            raise ValueError(f"invalid operation {writer.operation!r} in managedFields")
        shares[writer] = Share(fields.decode(entry.get("fieldsV1") or {}), entry.get("time"))
    return shares


def written(shares: Shares) -> list[Json]:
    def order(item: tuple[Writer, Share]) -> tuple[str, str, str, str, str]:
        writer, share = item
        return (writer.operation, share.since or "", writer.name, writer.api_version, writer.subresource)

    entries = []
    for writer, share in sorted(shares.items(), key=order):
        entry: Json = {"manager": writer.name, "operation": writer.operation, "apiVersion": writer.api_version}
        if share.since:
            entry["time"] = share.since
        entry |= {"fieldsType": "FieldsV1", "fieldsV1": fields.encode(share.owned)}
        if writer.subresource:
            entry["subresource"] = writer.subresource
        entries.append(entry)
    return entries


def stamp(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def update(write: Write, live: Json, new: Json, shares: Shares, now: datetime) -> Shares:
    """The shares after a POST, PUT or PATCH: the writer takes what it added or changed; what it removed nobody owns."""
    difference = typed.compare(write.kind, live, new)
    changed = difference.added | difference.modified
    after = _without(shares, changed | difference.removed, but=write.writer)
    before = after.get(write.writer, Share(NOTHING, None))
    taken = write.own(changed)
    owned = (before.owned - difference.removed) | taken
    if taken:
        after[write.writer] = Share(owned, stamp(now))
    elif owned:
        after[write.writer] = Share(owned, before.since)
    else:
        after.pop(write.writer, None)
    return after


def apply(write: Write, live: Json, config: Json, shares: Shares, *, force: bool, now: datetime) -> tuple[Json, Shares]:
    """Server-side apply: the new object and shares.

    What the writer applied before and leaves out now goes, unless somebody else owns it. Raises ApiError 409 with
    one cause per field that another writer owns and this one would change, unless forced.
    """
    writer = replace(write.writer, api_version="")
    last = next((share for one, share in shares.items() if _same_applier(one, writer)), None)
    others = {one: share for one, share in shares.items() if not _same_applier(one, writer)}
    merged = typed.merge(write.kind, live, config)
    said = typed.field_set(write.kind, config)
    owned = write.own(said)
    if last:
        everyone = said.union(*(share.owned for share in others.values()))
        merged = _prune(write.kind, merged, last.owned, everyone)
    difference = typed.compare(write.kind, live, merged)
    changed = difference.added | difference.modified
    conflicts = {one: share.owned & changed for one, share in others.items()}
    if not force:
        _refuse({one: paths for one, paths in conflicts.items() if paths})
    after = _without(others, changed | difference.removed)
    if owned:
        # A write that changes nothing has no time of its own: a new co-owner of equal values appears without one.
        since = stamp(now) if merged != live else (last.since if last else None)
        after[write.writer] = Share(owned, since)
    return merged, after


def _same_applier(one: Writer, writer: Writer) -> bool:
    """An applier stays the same one when it moves to another API version."""
    return one.operation == "Apply" and (one.name, one.subresource) == (writer.name, writer.subresource)


def _prune(kind: Type, merged: Json, last: FieldSet, everyone: FieldSet) -> Json:
    dropped = typed.with_parents(kind, last) - typed.with_parents(kind, everyone)
    if not dropped:
        return merged
    pruned = typed.remove(kind, merged, dropped)
    return {} if pruned is typed.ABSENT else pruned


def _without(shares: Shares, paths: FieldSet, but: Writer | None = None) -> Shares:
    after = {}
    for writer, share in shares.items():
        rest = share if writer == but else Share(share.owned - paths, share.since)
        if rest.owned:
            after[writer] = rest
    return after


def _refuse(conflicts: dict[Writer, FieldSet]) -> None:
    found = [
        (writer.render(), fields.render(path)) for writer, paths in conflicts.items() for path in fields.in_order(paths)
    ]
    if not found:
        return
    causes = [status.Cause("FieldManagerConflict", f"conflict with {who}", path) for who, path in found]
    if len(found) == 1:
        who, path = found[0]
        raise status.apply_conflict(f"Apply failed with 1 conflict: conflict with {who}: {path}", causes)
    lines = []
    for who in sorted({who for who, _ in found}):
        lines.append(f"conflicts with {who}:")
        lines += [f"- {path}" for one, path in found if one == who]
    said = "\n".join(lines)
    raise status.apply_conflict(f"Apply failed with {len(found)} conflicts: {said}", causes)
