"""What the server fills in when a body leaves it out, by kind."""

import base64
import copy
from collections.abc import Callable
from typing import Any

from local.kubernetes.kinds import RBAC, Kind

Json = dict[str, Any]


def fill(kind: Kind, body: Json) -> Json:
    """Changes the object in place and returns it."""
    body["apiVersion"], body["kind"] = kind.api_version, kind.name
    _BY_KIND.get(kind.name, _nothing)(body)
    return body


def _nothing(body: Json) -> None:
    pass


def _secret(body: Json) -> None:
    body.setdefault("type", "Opaque")
    texts = body.pop("stringData", None) or {}
    if texts:
        encoded = {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
        body["data"] = body.get("data", {}) | encoded


def _namespace(body: Json) -> None:
    if body["metadata"].get("name"):
        labels = body["metadata"].setdefault("labels", {})
        labels["kubernetes.io/metadata.name"] = body["metadata"]["name"]


def _binding(body: Json) -> None:
    body.setdefault("roleRef", {"kind": "", "name": ""}).setdefault("apiGroup", RBAC)
    for subject in body.get("subjects", ()):
        if subject.get("kind") in ("User", "Group"):
            subject.setdefault("apiGroup", RBAC)


def _service_account(body: Json) -> None:
    """Of the references to secrets nothing but the names is kept."""
    if body.get("secrets"):
        body["secrets"] = [{"name": one["name"]} if one.get("name") else {} for one in body["secrets"]]


_BY_KIND: dict[str, Callable[[Json], None]] = {
    "Secret": _secret,
    "Namespace": _namespace,
    "ServiceAccount": _service_account,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
}

# What an object of the kind looks like before anything is in it: Go's zero values that its encoder writes out.
# Ownership is reckoned from there, which is why nobody ever owns e.g. a bare `f:spec`.
_SKELETONS: dict[str, Json] = {
    "Namespace": {"spec": {}, "status": {}},
    "RoleBinding": {"roleRef": {"apiGroup": "", "kind": "", "name": ""}},
    "ClusterRoleBinding": {"roleRef": {"apiGroup": "", "kind": "", "name": ""}},
    "SelfSubjectAccessReview": {"spec": {}, "status": {"allowed": False}},
    "Role": {"rules": None},
    "ClusterRole": {"rules": None},
}


def skeleton(kind: Kind) -> Json:
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {}} | copy.deepcopy(
        _SKELETONS.get(kind.name, {})
    )


def prepare_create(kind: Kind, body: Json) -> None:
    """What creating decides, whatever the body says: generation, status, finalizers of namespaces."""
    if kind.generation:
        body["metadata"]["generation"] = 1
    if kind.status:
        body["status"] = copy.deepcopy(skeleton(kind).get("status", {}))
    if kind.name == "Namespace":
        finalizers = body.setdefault("spec", {}).setdefault("finalizers", [])
        if "kubernetes" not in finalizers:
            finalizers.append("kubernetes")
        body["status"] = {"phase": "Active"}


def prepare_status(body: Json, old: Json) -> None:
    """What a write to the status cannot change."""
    body.pop("spec", None)
    if "spec" in old:
        body["spec"] = old["spec"]


def prepare_update(kind: Kind, body: Json, old: Json) -> None:
    """What a write to the main resource cannot change."""
    if kind.status:
        body.pop("status", None)
        if "status" in old:
            body["status"] = old["status"]
    if kind.name == "Namespace":
        body["spec"] = old["spec"]
        body["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = body["metadata"]["name"]
