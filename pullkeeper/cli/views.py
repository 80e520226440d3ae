"""Rows of the tables that `pullkeeper get` prints, from the app's documents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pullkeeper.cli.client import Json
from pullkeeper.cli.names import ClusterName, display_names
from pullkeeper.cli.terminal import Cell, Row, clean
from pullkeeper.cli.times import describe_ago, describe_left

CLUSTERS: Final = ("NAME", "HUB", "STATE", "LEFT", "LAST-SUCCESS", "MESSAGE")
CLUSTERS_WIDE: Final = (
    *("NAME", "RESOURCE-GROUP", "HUB", "REFRESHER", "STATE", "TARGETS", "WORST", "LEFT", "LAST-SUCCESS", "NEXT-DUE"),
    *("RUNBOOK", "MESSAGE"),
)
HUBS: Final = ("NAME", "STATE", "LEFT", "LAST-SUCCESS", "MESSAGE")
HUBS_WIDE: Final = ("NAME", "STATE", "LEFT", "LAST-SUCCESS", "SECONDS", "REGISTRIES", "RUNBOOK", "MESSAGE")
OPERATIONS: Final = ("ID", "KIND", "STATUS", "STARTED", "CLUSTER")
OPERATIONS_WIDE: Final = ("ID", "KIND", "STATUS", "DRY-RUN", "STARTED", "UPDATED", "CLUSTER")
_STYLES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("fresh", "ok", "Succeeded"), "green"),
    **dict.fromkeys(("stale", "warning", "pending", "AwaitingFederation"), "yellow"),
    **dict.fromkeys(("expired", "failed", "Failed"), "bold red"),
    **dict.fromkeys(("Queued", "Running"), "cyan"),
    **dict.fromkeys(("unknown", "removed", "-"), "dim"),
}


@dataclass(frozen=True, slots=True)
class Table:
    """rows: by what they are about. A row has changed if its document has, not if time has passed."""

    columns: Sequence[str]
    rows: Mapping[str, Row]
    documents: Mapping[str, Json]


def list_clusters(lines: Sequence[Json], now: datetime, *, is_wide: bool) -> Table:
    names = display_names(lines)
    rows = {line["cluster"]: _cluster(line, names[line["cluster"]], now, is_wide=is_wide) for line in lines}
    return Table(CLUSTERS_WIDE if is_wide else CLUSTERS, rows, {line["cluster"]: line for line in lines})


def list_hubs(hubs: Sequence[Json], now: datetime, *, is_wide: bool) -> Table:
    rows = {hub["name"]: _hub(hub, now, is_wide=is_wide) for hub in hubs}
    return Table(HUBS_WIDE if is_wide else HUBS, rows, {hub["name"]: hub for hub in hubs})


def list_operations(operations: Sequence[Json], now: datetime, *, is_wide: bool) -> Table:
    names = display_names(operations)
    rows = {one["id"]: _operation(one, names[one["cluster"]], now, is_wide=is_wide) for one in operations}
    return Table(OPERATIONS_WIDE if is_wide else OPERATIONS, rows, {one["id"]: one for one in operations})


def _cluster(line: Json, name: str, now: datetime, *, is_wide: bool) -> Row:
    worst, search = line["worst"] or {}, line["search"] or {}
    state = worst.get("state", "-")
    left, success = describe_left(worst.get("expiresAt"), now), describe_ago(worst.get("lastSuccess"), now)
    about = worst if worst.get("category") else search if search.get("category") else worst or search
    message = _cell(describe_failure(about) or about.get("note") or "-")
    if not is_wide:
        return _cell(name), _cell(line["hub"]), _cell(state), _cell(left), _cell(success), message
    states = line["states"]
    return (
        *map(_cell, (name, ClusterName.parse(line["cluster"]).group, line["hub"], line["refresher"], state)),
        _cell(f"{states.get('fresh', 0)}/{sum(states.values())}"),
        *map(_cell, (worst.get("target"), left, success, describe_left(line["nextDue"], now), about.get("runbook"))),
        message,
    )


def _hub(hub: Json, now: datetime, *, is_wide: bool) -> Row:
    problem = hub["failure"] or hub["warning"] or {}
    message = _cell(hub["fault"] or describe_failure(problem) or "-")
    left, success = describe_left(hub["expiresAt"], now), describe_ago(hub["lastMint"], now)
    if not is_wide:
        return (*map(_cell, (hub["name"], hub["state"], left, success)), message)
    registries = ",".join(hub["registries"])
    more = (hub["mintSeconds"], registries, problem.get("runbook"))
    return (*map(_cell, (hub["name"], hub["state"], left, success, *more)), message)


def _operation(one: Json, name: str, now: datetime, *, is_wide: bool) -> Row:
    started = describe_ago(one["createdAt"], now)
    if not is_wide:
        kind = f"{one['kind']} (dry run)" if one["dryRun"] else one["kind"]
        return tuple(map(_cell, (one["id"], kind, one["status"], started, name)))
    updated = describe_ago(one["updatedAt"], now)
    dry_run = "yes" if one["dryRun"] else "no"
    return tuple(map(_cell, (one["id"], one["kind"], one["status"], dry_run, started, updated, one["cluster"])))


def describe_failure(explained: Mapping[str, Any]) -> str | None:
    """Return `category: detail`, None without a category."""
    if not explained.get("category"):
        return None
    return f"{explained['category']}: {explained.get('detail') or 'see the runbook'}"


def _cell(value: object) -> Cell:
    text = "-" if value is None or value == "" else clean(value)
    return Cell(text, _STYLES.get(text, ""))
