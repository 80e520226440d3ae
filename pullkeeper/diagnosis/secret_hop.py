"""The hop of the pull secret: whose it is, of which type, and how long its token lives. It is not read: a dry run
shows its metadata.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from pullkeeper.cluster import pull_secret
from pullkeeper.cluster.ownership import MANAGER, ObjectMetadata, managers
from pullkeeper.cluster.refusals import OwnershipConflict
from pullkeeper.diagnosis.course import Course, Step, build_hop, skipped
from pullkeeper.diagnosis.patient import EVERYWHERE, Namespaces, Patient, know_namespaces
from pullkeeper.diagnosis.report import Hop, HopName
from pullkeeper.diagnosis.view import NoTimeLeft, examine_all
from pullkeeper.errors import (
    ClusterRbacDenied,
    PullkeeperError,
    SecretConflict,
    SecretImmutable,
    SecretMissing,
)
from pullkeeper.fleet.overview import explain_expiry
from pullkeeper.model import Target
from pullkeeper.refresh.outcomes import Observed

_NAME: Final[HopName] = "secret"
_TYPE: Final = "kubernetes.io/dockerconfigjson"
_MINUTE: Final = timedelta(minutes=1)


async def check_secrets(
    course: Course, opened: Step[Patient], namespaces: Step[Namespaces], denied: Step[frozenset[str]]
) -> None:
    patient, found = await course.need(_NAME, opened), await know_namespaces(course, _NAME, namespaces)

    async def examine(target: Target) -> Hop:
        if found.block(target.namespace):
            return skipped(_NAME, "namespace", target)
        try:
            seen = await _look(patient, target)
        except NoTimeLeft:
            raise
        except ClusterRbacDenied as e:
            if (await course.need(_NAME, denied)).intersection((target.namespace, EVERYWHERE)):
                return skipped(_NAME, "permission", target)
            if patient.cluster.refresher == "in-cluster":
                rule = f"--verb=patch,create --resource=secrets --resource-name={target.secret}"
                return patient.hide(course, _NAME, str(target), e, rule)
            return _explain(course, patient, target, e)
        except PullkeeperError as e:
            return _explain(course, patient, target, e)
        return _judge(course, patient, target, seen)

    hops, unseen = await examine_all(patient.targets, examine)
    course.add_all(_NAME, hops, what="secrets", unseen=unseen)


async def _look(patient: Patient, target: Target) -> ObjectMetadata | None:
    """Look as the identity that refreshes: what it meets is what the next refresh meets. Raises SecretImmutable for
    another type.
    """
    look, path = patient.view.call, pull_secret.path(target)
    if patient.cluster.refresher == "in-cluster":
        look = patient.view.see
    seen = await look(lambda api: api.look(path, "Secret"))
    # Our field manager has mostly set the type, which never changes.
    if seen and patient.may_write(target, seen) and MANAGER not in managers(seen.metadata, "type"):
        try:
            await look(lambda api: api.look(path, "Secret", type=_TYPE))
        except OwnershipConflict as e:
            raise SecretImmutable(e.detail) from None
    return seen


def _explain(
    course: Course,
    patient: Patient,
    target: Target,
    failure: PullkeeperError,
    evidence: Mapping[str, object] | None = None,
) -> Hop:
    return course.explain(_NAME, failure.with_context(**patient.context(target)), subject=target, evidence=evidence)


def _judge(course: Course, patient: Patient, target: Target, seen: ObjectMetadata | None) -> Hop:
    if seen is None:
        return _explain(course, patient, target, SecretMissing("there is no such secret"))
    times, left = Observed.of(seen), timedelta()
    editors, owners = managers(seen.metadata, "data"), ", ".join(sorted(seen.managers)) or "no one"
    evidence: dict[str, object] = {"uid": seen.uid, "field managers": owners}
    if not patient.may_write(target, seen):
        return _explain(course, patient, target, SecretConflict(f"it belongs to {owners}"), evidence)
    evidence |= {"type": _TYPE, "last failure": patient.status.of(target).category}
    if times.expires_at:
        left = times.expires_at - patient.now
        evidence |= {"expires at": times.expires_at.isoformat(), "minutes left": int(left / _MINUTE)}
        if left <= timedelta():
            return _explain_expired(course, patient, target, times, evidence)
    if MANAGER not in editors:
        who = ", ".join(sorted(editors)) or "another client"
        detail = f"{who} has written its content: the next refresh puts it right"
        return build_hop(_NAME, "warning", detail, subject=target, evidence=evidence)
    detail = f"its token lives for {evidence.get('minutes left', 'an unknown number of')} more minutes"
    return build_hop(_NAME, "ok", detail, subject=target, evidence=evidence)


def _explain_expired(
    course: Course, patient: Patient, target: Target, times: Observed, evidence: Mapping[str, object]
) -> Hop:
    """By the last failure of a refresh, or by there having been none."""
    seen = {"issued_at": times.issued_at, "expires_at": times.expires_at, "unobserved": False}
    expired = patient.status.of(target).model_copy(update=seen)
    explained = explain_expiry(patient.cluster, target, expired, patient.now)
    hop = build_hop(_NAME, "failed", f"its token has expired: {explained.detail}", subject=target, evidence=evidence)
    about = {"category": explained.category, "remedy": explained.remedy}
    return hop.model_copy(update={**about, "runbook": course.page(explained.category)})
