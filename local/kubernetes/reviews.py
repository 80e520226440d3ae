"""Who am I, and may I: SelfSubjectReview and SelfSubjectAccessReview."""

from datetime import datetime
from typing import Any

from local.kubernetes import authorship, decode, status
from local.kubernetes.authz import Rbac
from local.kubernetes.calls import Call
from local.kubernetes.kinds import Kind
from local.kubernetes.ownership import stamp
from local.kubernetes.routing import Attributes

Json = dict[str, Any]

_AUTHORIZATION, _AUTHENTICATION = "authorization.k8s.io", "authentication.k8s.io"
_ACCESS = Kind(_AUTHORIZATION, "selfsubjectaccessreviews", "SelfSubjectAccessReview", "authorization", namespaced=False)
_SUBJECT = Kind(_AUTHENTICATION, "selfsubjectreviews", "SelfSubjectReview", "authentication", namespaced=False)
KINDS = {(kind.group, kind.plural): kind for kind in (_ACCESS, _SUBJECT)}
GROUPS = (_AUTHORIZATION, _AUTHENTICATION)


def find(asked: Attributes) -> Kind | None:
    """The kind of review that a request is about."""
    return KINDS.get((asked.group, asked.resource))


def answer(call: Call, rbac: Rbac, body: Json, now: datetime) -> Json:
    """The review with its outcome. Raises ApiError 400 or 422."""
    made = decode.written(call.kind, body, decode.Findings())
    made |= {"kind": call.kind.name, "apiVersion": call.kind.api_version}
    if call.kind is _SUBJECT:
        return made | {"metadata": {"creationTimestamp": stamp(now)}, "status": {"userInfo": call.user.to_json()}}
    spec = made.setdefault("spec", {})
    _check(spec, made["metadata"])
    made = authorship.by_update(call, {}, made, now)
    decision = rbac.decide(call.user, _asked(spec))
    made["status"] = {"allowed": decision.allowed}
    if decision.reason:
        made["status"]["reason"] = decision.reason
    return made


def _check(spec: Json, meta: Json) -> None:
    causes = []
    path, resource = spec.get("nonResourceAttributes"), spec.get("resourceAttributes")
    if bool(path) == bool(resource):
        shown = status.compact({"Path": path.get("path", ""), "Verb": path.get("verb", "")}) if path else "null"
        why = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        causes.append(status.wrong("spec", shown, why))
    if meta:
        causes.append(status.wrong("metadata", status.compact(meta), "must be empty"))
    if causes:
        raise status.invalid("", "", causes, _ACCESS.group)


def _asked(spec: Json) -> Attributes:
    path = spec.get("nonResourceAttributes")
    if path:
        return Attributes(path.get("verb", ""), path.get("path", ""))
    asked = spec.get("resourceAttributes") or {}
    return Attributes(
        asked.get("verb", ""),
        "",
        asked.get("group", ""),
        asked.get("version", "") or "v1",
        asked.get("namespace", ""),
        asked.get("resource", ""),
        asked.get("subresource", ""),
        asked.get("name", ""),
    )
