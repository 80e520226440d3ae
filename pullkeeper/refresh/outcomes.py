"""How a refresh went, target by target: the status that follows from it, and the events."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

from pullkeeper import telemetry
from pullkeeper.cluster import pull_secret
from pullkeeper.cluster.ownership import ObjectMetadata
from pullkeeper.errors import PullkeeperError
from pullkeeper.fleet.shards import shard_of
from pullkeeper.fleet.status import Search, Status, TargetStatus
from pullkeeper.model import Cluster, ClusterId, Endpoint, Target
from pullkeeper.publisher.credential_config import LONGEST_LIFE
from pullkeeper.refresh.pace import next_due, retry, slow_retry
from pullkeeper.refresh.search import Listing, apply_search
from pullkeeper.tokens import Token

ALL: Final = "*"
"""In place of a target, where the list of a cluster's namespaces has failed."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """A target that has the token."""

    written: pull_secret.WriteResult
    token: Token
    note: str | None


@dataclass(frozen=True, slots=True)
class Observed:
    """A target that the cluster itself refreshes, with the times of its annotations if it has them."""

    uid: str | None = None
    issued_at: datetime | None = None
    expires_at: datetime | None = None

    @classmethod
    def of(cls, seen: ObjectMetadata | None) -> Self:
        if seen is None:
            return cls()
        annotations = seen.metadata.get("annotations") or {}
        try:
            issued, expires = (
                datetime.fromisoformat(annotations[f"pullkeeper.dev/{name}"]) for name in ("issued-at", "expires-at")
            )
            life = expires - issued  # TypeError where one has a zone and the other has not
        except (KeyError, ValueError, TypeError):
            return cls(seen.uid)
        # Every time follows from it: the annotations of one cluster must not stop its whole shard.
        is_valid = issued.tzinfo and 0 < life.total_seconds() <= LONGEST_LIFE
        return cls(seen.uid, issued, expires) if is_valid else cls(seen.uid)


@dataclass(frozen=True, slots=True)
class Unobserved:
    """A target that the cluster itself refreshes, where the app may not look."""

    why: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A secret whose namespace has lost the labels of its selector. why: it stays although it is to be removed."""

    why: str | None


@dataclass(frozen=True, slots=True)
class Gone:
    """A target whose namespace had lost the labels, and whose secret no longer exists. deleted: by us."""

    deleted: bool


Outcome = Fresh | Observed | Unobserved | Kept | Gone | PullkeeperError


@dataclass(frozen=True, slots=True)
class Attempt:
    """How each target went. endpoint: where the cluster is now, if Azure had to be asked, which was at located_at.
    search: how the list of its namespaces went, if one was made.
    """

    outcomes: Mapping[Target, Outcome]
    endpoint: Endpoint | None = None
    located_at: datetime | None = None
    search: Listing | PullkeeperError | None = None


def next_status(before: Status, cluster: Cluster, attempt: Attempt, now: datetime) -> Status:
    """Return the status of a cluster after an attempt; targets that it did not include keep theirs."""
    before = apply_search(before, cluster, attempt.search, now)
    life = next((one.token.life for one in attempt.outcomes.values() if isinstance(one, Fresh)), before.life)
    known = {str(target) for target in before.targets_of(cluster)}
    changed = {
        str(target): _target_status(before.of(target), outcome, cluster.cluster, life, now)
        for target, outcome in attempt.outcomes.items()
    }
    gone = {str(target) for target, outcome in attempt.outcomes.items() if isinstance(outcome, Gone)}
    kept = {name: target for name, target in before.targets.items() if name in known}
    return Status(
        targets={name: one for name, one in {**kept, **changed}.items() if name not in gone},
        endpoint=attempt.endpoint or before.endpoint,
        located_at=attempt.located_at or before.located_at,
        search=before.search,
    )


def _target_status(
    before: TargetStatus, outcome: Outcome, cluster: ClusterId, life: timedelta, now: datetime
) -> TargetStatus:
    if isinstance(outcome, PullkeeperError):
        failures = before.failures + 1
        pause = retry(life, failures) if outcome.retryable else slow_retry(life)
        failure = {"category": outcome.category, "detail": outcome.detail, "remedy": outcome.remedy}
        return before.model_copy(update={**failure, "failures": failures, "next_due": now + pause})
    if isinstance(outcome, Kept | Gone):
        cleared = {"category": None, "detail": None, "remedy": None, "failures": 0}
        note = outcome.why if isinstance(outcome, Kept) else None
        return before.model_copy(update={**cleared, "note": note, "next_due": now + life})
    due = next_due(shard_of(cluster), life, now)
    if isinstance(outcome, Unobserved):
        return TargetStatus(unobserved=True, next_due=due, note=outcome.why)
    if isinstance(outcome, Observed):
        return TargetStatus(uid=outcome.uid, issued_at=outcome.issued_at, expires_at=outcome.expires_at, next_due=due)
    return TargetStatus(
        uid=outcome.written.uid,
        issued_at=outcome.token.issued_at,
        expires_at=outcome.token.expires_at,
        last_success=now,
        next_due=due,
        note=outcome.note,
        found=before.found,
    )


def report_outcome(cluster: ClusterId, target: Target, outcome: Outcome) -> None:
    """Emit what happened to one target."""
    if isinstance(outcome, Observed | Unobserved | Kept):
        return
    if isinstance(outcome, Gone):
        report_removed(cluster, str(target), "the secret was deleted" if outcome.deleted else "the secret is gone")
        return
    event: dict[str, telemetry.Attribute] = {"cluster": str(cluster), "target": f"{cluster}/{target}"}
    if isinstance(outcome, PullkeeperError):
        event |= {"category": outcome.category, "detail": outcome.detail, "remedy": outcome.remedy}
        telemetry.measure(telemetry.refresh_count.add, 1, {"category": outcome.category})
        telemetry.emit("secret.refresh_failed", event, logging.WARNING)
        return
    event |= {"uid": outcome.written.uid}
    event |= {"token_issued": outcome.token.issued_at, "token_expiry": outcome.token.expires_at}
    telemetry.measure(telemetry.refresh_count.add, 1, {"category": "ok"})
    telemetry.emit("secret.refreshed", {**event, "note": outcome.note})
    if outcome.written.drift:
        event |= {"category": "drift_repaired", "detail": outcome.written.drift}
        telemetry.emit("drift.repaired", event, logging.WARNING)


def report_found(cluster: ClusterId, before: Status, after: Status) -> None:
    """Emit which targets have been added and removed since."""
    for name, one in after.targets.items():
        known = before.of(name).found
        if one.found and (known is None or known.added_at != one.found.added_at):
            telemetry.emit("target.added", {"cluster": str(cluster), "target": f"{cluster}/{name}"})
    for name, one in before.targets.items():
        if one.found and not one.removed_at:
            if after.of(name).removed_at:
                report_removed(cluster, name, "no selector finds its namespace; it is not refreshed any more")
            elif name not in after.targets:
                report_removed(cluster, name, "its namespace is being deleted")
        elif not one.found and name not in after.targets:
            report_removed(cluster, name, "the cluster was onboarded without it")


def report_search(cluster: ClusterId, search: Search) -> None:
    """Emit how a list of namespaces failed, or which of them do not fit."""
    failure = {name: getattr(search, name) for name in ("category", "detail", "remedy")}
    telemetry.measure(telemetry.refresh_count.add, 1, {"category": failure["category"]})
    event = {"cluster": str(cluster), "target": f"{cluster}/{ALL}", **failure}
    telemetry.emit("secret.refresh_failed", event, logging.WARNING)


def report_removed(cluster: ClusterId, target: str, detail: str) -> None:
    telemetry.emit("target.removed", {"cluster": str(cluster), "target": f"{cluster}/{target}", "detail": detail})


def report_status(cluster: ClusterId, target: str, status: TargetStatus, state: str) -> None:
    """Emit how one target is."""
    event = {
        "cluster": str(cluster),
        "target": f"{cluster}/{target}",
        "state": state,
        "token_issued": status.issued_at,
        "token_expiry": status.expires_at,
        "last_success": status.last_success,
        "category": status.category,
        "remedy": status.remedy,
    }
    telemetry.emit("fleet.status", event)
