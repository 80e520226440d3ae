"""What a cluster has before anybody has done anything: namespaces, and the roles that everybody relies on."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from local.kubernetes.kinds import RBAC, Kind, named
from local.kubernetes.ownership import stamp
from local.kubernetes.store import Store

Json = dict[str, Any]

NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")

_DISCOVERY = ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz"]
_DISCOVERY += ["/version", "/version/"]
_ROLES: dict[str, list[Json]] = {
    "cluster-admin": [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ],
    "system:basic-user": [
        {
            "apiGroups": ["authorization.k8s.io"],
            "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
            "verbs": ["create"],
        },
        {"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"]},
    ],
    "system:discovery": [{"nonResourceURLs": _DISCOVERY, "verbs": ["get"]}],
    "system:public-info-viewer": [
        {"nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version", "/version/"], "verbs": ["get"]}
    ],
}
_BINDINGS: dict[str, tuple[str, ...]] = {
    "cluster-admin": ("system:masters",),
    "system:basic-user": ("system:authenticated",),
    "system:discovery": ("system:authenticated",),
    "system:public-info-viewer": ("system:authenticated", "system:unauthenticated"),
}


def fill(store: Store, clock: Callable[[], datetime]) -> None:
    born: Json = {"creationTimestamp": stamp(clock())}
    label: Json = {"f:metadata": {"f:labels": {".": {}, "f:kubernetes.io/metadata.name": {}}}}
    author = {"manager": "kube-apiserver", "operation": "Update", "apiVersion": "v1", "time": born["creationTimestamp"]}
    born["managedFields"] = [author | {"fieldsType": "FieldsV1", "fieldsV1": label}]
    for name in NAMESPACES:
        meta = born | {"name": name, "labels": {"kubernetes.io/metadata.name": name}}
        _put(store, named("namespaces"), meta, {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
    del born["managedFields"]
    born["labels"] = {"kubernetes.io/bootstrapping": "rbac-defaults"}
    for name, rules in _ROLES.items():
        _put(store, named("clusterroles"), born | {"name": name}, {"rules": rules})
    for name, groups in _BINDINGS.items():
        subjects = [{"apiGroup": RBAC, "kind": "Group", "name": group} for group in groups]
        reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}
        _put(store, named("clusterrolebindings"), born | {"name": name}, {"roleRef": reference, "subjects": subjects})


def _put(store: Store, kind: Kind, meta: Json, body: Json) -> None:
    store.put(kind, {"apiVersion": kind.api_version, "kind": kind.name, "metadata": meta, **body})
