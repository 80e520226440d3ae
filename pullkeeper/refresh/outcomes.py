"""How a refresh went, target by target: what that makes of the status, and what is told of it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from pullkeeper import telemetry
from pullkeeper.cluster import pull_secret
from pullkeeper.cluster.api import ObjectMetadata
from pullkeeper.errors import PullkeeperError
from pullkeeper.model import Cluster, Endpoint, Status, Target, TargetStatus
from pullkeeper.tokens import Token, lease, next_due, slow_retry


@dataclass(frozen=True, slots=True)
class Fresh:
    """A target that took the token."""

    written: pull_secret.Written
    token: Token
    note: str | None


@dataclass(frozen=True, slots=True)
class Observed:
    """A target that the cluster itself refreshes, as its annotations tell; without times where they tell nothing."""

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
        except (KeyError, ValueError, TypeError):
            return cls(seen.uid)
        return cls(seen.uid, issued, expires) if issued.tzinfo and expires.tzinfo else cls(seen.uid)


@dataclass(frozen=True, slots=True)
class Unobserved:
    """A target that the cluster itself refreshes, where we may not look."""

    why: str


Outcome = Fresh | Observed | Unobserved | PullkeeperError


@dataclass(frozen=True, slots=True)
class Attempt:
    """How each target fared. endpoint: where the cluster turned out to be, if Azure had to be asked."""

    outcomes: Mapping[Target, Outcome]
    endpoint: Endpoint | None = None
    located_at: datetime | None = None


def concluded(status: Status, cluster: Cluster, attempt: Attempt, now: datetime) -> Status:
    """The status after an attempt. While a try of the queue's is still to come the lease stands."""
    targets = {
        str(target): _target_status(status.targets.get(str(target)), outcome, now)
        for target, outcome in attempt.outcomes.items()
    }
    failures = [outcome for outcome in attempt.outcomes.values() if isinstance(outcome, PullkeeperError)]
    fresh = [outcome for outcome in attempt.outcomes.values() if isinstance(outcome, Fresh)]
    life = fresh[0].token.life if fresh else status.life
    due = status.next_due
    if cluster.refresher == "in-cluster":
        due = now + lease(life)
    elif not any(failure.retryable for failure in failures):
        due = next_due(fresh[0].token) if not failures else now + slow_retry(life)
    return status.model_copy(
        update={
            "cluster": cluster.cluster,
            "targets": targets,
            "life": life,
            "next_due": due,
            "failures": status.failures if failures else 0,
            "endpoint": attempt.endpoint or status.endpoint,
            "located_at": attempt.located_at or status.located_at,
        }
    )


def _target_status(held: TargetStatus | None, outcome: Outcome, now: datetime) -> TargetStatus:
    if isinstance(outcome, Fresh):
        return TargetStatus(
            uid=outcome.written.uid,
            issued_at=outcome.token.issued_at,
            expires_at=outcome.token.expires_at,
            last_success=now,
            note=outcome.note,
        )
    if isinstance(outcome, Unobserved):
        return TargetStatus(unseen=True, note=outcome.why)
    if isinstance(outcome, Observed):
        return TargetStatus(uid=outcome.uid, issued_at=outcome.issued_at, expires_at=outcome.expires_at)
    failed = {"category": outcome.category, "detail": outcome.detail, "remedy": outcome.remedy}
    return (held or TargetStatus()).model_copy(update=failed)


def tell(cluster: Cluster, target: Target, outcome: Outcome) -> None:
    told: dict[str, telemetry.Attribute] = {
        "cluster": str(cluster.cluster),
        "target": f"{cluster.cluster}/{target}",
    }
    if isinstance(outcome, Observed | Unobserved):
        return
    if isinstance(outcome, PullkeeperError):
        told |= {"category": outcome.category, "detail": outcome.detail, "remedy": outcome.remedy}
        telemetry.measure(telemetry.refresh_count.add, 1, {"category": outcome.category})
        telemetry.emit("secret.refresh_failed", told, logging.WARNING)
        return
    told |= {"uid": outcome.written.uid, "token_expiry": outcome.token.expires_at}
    telemetry.measure(telemetry.refresh_count.add, 1, {"category": "ok"})
    telemetry.emit("secret.refreshed", {**told, "note": outcome.note})
    if outcome.written.drift:
        told |= {"category": "drift_repaired", "detail": outcome.written.drift}
        telemetry.emit("drift.repaired", told, logging.WARNING)
