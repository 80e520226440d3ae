"""Outcomes of a refresh, one per target: the status that follows from them, and the events that report them."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from pullkeeper import telemetry
from pullkeeper.cluster import pull_secret
from pullkeeper.cluster.api import ObjectMetadata
from pullkeeper.errors import ClusterMoved, ClusterTlsUntrusted, ClusterUnauthorized, PullkeeperError
from pullkeeper.model import Cluster, Endpoint, Status, Target, TargetStatus
from pullkeeper.tokens import Token, lease, look_again, next_due, slow_retry


@dataclass(frozen=True, slots=True)
class Fresh:
    """The target has the token."""

    written: pull_secret.WriteResult
    token: Token
    note: str | None


@dataclass(frozen=True, slots=True)
class Observed:
    """A target that the cluster itself refreshes, read from its annotations; without times where they have none."""

    uid: str | None = None
    issued_at: datetime | None = None
    expires_at: datetime | None = None

    @classmethod
    def parse(cls, secret: ObjectMetadata | None) -> Self:
        if secret is None:
            return cls()
        annotations = secret.metadata.get("annotations") or {}
        try:
            issued, expires = (
                datetime.fromisoformat(annotations[f"pullkeeper.dev/{name}"]) for name in ("issued-at", "expires-at")
            )
        except (KeyError, ValueError, TypeError):
            return cls(secret.uid)
        return cls(secret.uid, issued, expires) if issued.tzinfo and expires.tzinfo else cls(secret.uid)


@dataclass(frozen=True, slots=True)
class Unobserved:
    """A target that the cluster itself refreshes, where the app may not look."""

    reason: str


Outcome = Fresh | Observed | Unobserved | PullkeeperError


@dataclass(frozen=True, slots=True)
class Attempt:
    """The outcome of each target. endpoint, located_at: what Azure answered and when, if it had to be asked."""

    outcomes: Mapping[Target, Outcome]
    endpoint: Endpoint | None = None
    located_at: datetime | None = None


def may_have_moved(outcomes: Mapping[Target, Outcome], endpoint: Endpoint) -> bool:
    """Whether the cluster may have another address, CA or client certificate than `endpoint`."""
    signs: tuple[type[PullkeeperError], ...] = (ClusterMoved, ClusterTlsUntrusted)
    if endpoint.local_accounts:
        signs = (*signs, ClusterUnauthorized)  # az aks rotate-certs replaces the client's certificate too
    return any(isinstance(outcome, signs) for outcome in outcomes.values())


def needs_refresh(status: Status, cluster: Cluster, now: datetime) -> bool:
    """Whether a message with reason `due` has anything to do. It has not if the due time lies beyond its lease: another
    message was processed meanwhile. A second lease is allowed for, because clocks of instances differ.
    """
    is_complete = all(str(target) in status.targets for target in cluster.targets)
    return not is_complete or status.next_due <= now + 2 * lease(status.life)


def next_status(status: Status, cluster: Cluster, attempt: Attempt, now: datetime) -> Status:
    """Return the status after an attempt. After a retryable failure the lease begins again: the queue tries again
    within it, unless the message is lost.
    """
    targets = {
        str(target): _next_target_status(status.targets.get(str(target)), outcome, now)
        for target, outcome in attempt.outcomes.items()
    }
    failures = [outcome for outcome in attempt.outcomes.values() if isinstance(outcome, PullkeeperError)]
    fresh = [outcome for outcome in attempt.outcomes.values() if isinstance(outcome, Fresh)]
    life = fresh[0].token.life if fresh else status.life
    if cluster.refresher == "in-cluster":
        due = now + look_again(life)
    elif any(failure.retryable for failure in failures):
        due = now + lease(life)
    else:
        due = now + slow_retry(life) if failures else next_due(fresh[0].token)
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


def _next_target_status(previous: TargetStatus | None, outcome: Outcome, now: datetime) -> TargetStatus:
    if isinstance(outcome, Fresh):
        return TargetStatus(
            uid=outcome.written.uid,
            issued_at=outcome.token.issued_at,
            expires_at=outcome.token.expires_at,
            last_success=now,
            note=outcome.note,
        )
    if isinstance(outcome, Unobserved):
        return TargetStatus(unseen=True, note=outcome.reason)
    if isinstance(outcome, Observed):
        return TargetStatus(uid=outcome.uid, issued_at=outcome.issued_at, expires_at=outcome.expires_at)
    failure = {"category": outcome.category, "detail": outcome.detail, "remedy": outcome.remedy}
    return (previous or TargetStatus()).model_copy(update=failure)


def report_outcome(cluster: Cluster, target: Target, outcome: Outcome) -> None:
    """Emit the events of one target. One that the cluster itself refreshes has none."""
    if isinstance(outcome, Observed | Unobserved):
        return
    event: dict[str, telemetry.Attribute] = {
        "cluster": str(cluster.cluster),
        "target": f"{cluster.cluster}/{target}",
    }
    if isinstance(outcome, PullkeeperError):
        event |= {"category": outcome.category, "detail": outcome.detail, "remedy": outcome.remedy}
        telemetry.measure(telemetry.refresh_count.add, 1, {"category": outcome.category})
        telemetry.emit("secret.refresh_failed", event, logging.WARNING)
        return
    event |= {"uid": outcome.written.uid, "token_expiry": outcome.token.expires_at}
    telemetry.measure(telemetry.refresh_count.add, 1, {"category": "ok"})
    telemetry.emit("secret.refreshed", {**event, "note": outcome.note})
    if outcome.written.drift:
        event |= {"category": "drift_repaired", "detail": outcome.written.drift}
        telemetry.emit("drift.repaired", event, logging.WARNING)
