"""Who am I, and may I: SelfSubjectReview and SelfSubjectAccessReview."""

from typing import Any

from local.kubernetes.authn import User
from local.kubernetes.authz import Rbac
from local.kubernetes.routing import Attributes

Json = dict[str, Any]

GROUPS = {
    "authorization.k8s.io": {"selfsubjectaccessreviews": "SelfSubjectAccessReview"},
    "authentication.k8s.io": {"selfsubjectreviews": "SelfSubjectReview"},
}


def find(asked: Attributes) -> str | None:
    """The kind of review that a request is about."""
    return GROUPS[asked.group].get(asked.resource)


def self_subject(user: User) -> Json:
    return {
        "kind": "SelfSubjectReview",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {},
        "status": {"userInfo": user.to_json()},
    }


def self_access(user: User, rbac: Rbac, body: Json) -> Json:
    spec = body.get("spec") or {}
    decision = rbac.decide(user, _asked(spec))
    found: Json = {"allowed": decision.allowed}
    if decision.reason:
        found["reason"] = decision.reason
    return {
        "kind": "SelfSubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {},
        "spec": spec,
        "status": found,
    }


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
