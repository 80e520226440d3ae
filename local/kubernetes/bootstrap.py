"""What a cluster has from the start: namespaces, the administrators' role, and the right to review one's access."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from local.kubernetes.authentication import AUTHENTICATED, MASTERS
from local.kubernetes.kinds import (
    ACCESS_REVIEWS,
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    NAMESPACES,
    RBAC,
    REVIEWS,
    Kind,
)
from local.kubernetes.ownership import stamp
from local.kubernetes.store import Store

Json = dict[str, Any]

INITIAL_NAMESPACES: Final = ("default", "kube-node-lease", "kube-public", "kube-system")
_ROLES: Final[tuple[tuple[str, str, Json], ...]] = (
    ("cluster-admin", MASTERS, {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}),
    (
        "system:basic-user",
        AUTHENTICATED,
        {"apiGroups": [REVIEWS], "resources": [ACCESS_REVIEWS.plural], "verbs": ["create"]},
    ),
)


def fill(store: Store, clock: Callable[[], datetime]) -> None:
    since = {"creationTimestamp": stamp(clock())}
    for name in INITIAL_NAMESPACES:
        meta = {**since, "name": name, "labels": {"kubernetes.io/metadata.name": name}}
        _put(store, NAMESPACES, meta, {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
    for name, group, rule in _ROLES:
        reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}
        subject = {"apiGroup": RBAC, "kind": "Group", "name": group}
        _put(store, CLUSTER_ROLES, {**since, "name": name}, {"rules": [rule]})
        _put(store, CLUSTER_ROLE_BINDINGS, {**since, "name": name}, {"roleRef": reference, "subjects": [subject]})


def _put(store: Store, kind: Kind, meta: Json, body: Json) -> None:
    store.put(kind, {"apiVersion": kind.api_version, "kind": kind.name, "metadata": meta, **body})
