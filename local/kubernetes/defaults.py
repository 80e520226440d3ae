"""What the server writes into an object that leaves it out: defaults, and the empty structs that Go's encoder keeps.

Both decide about ownership, which is more than looks: who creates an object by POST owns its defaults, and no one ever
owns a bare `f:spec`.
"""

from collections.abc import Mapping
from typing import Any, Final

from local.kubernetes.kinds import RBAC, Kind
from local.kubernetes.schema import ANYTHING, Type
from local.kubernetes.store import copy_json

Json = dict[str, Any]

_WRITTEN: Final[Mapping[str, tuple[str, ...]]] = {
    "Namespace": ("metadata", "spec", "status"),
    "Service": ("metadata", "spec", "status"),
    "ServiceStatus": ("loadBalancer",),
    "Deployment": ("metadata", "spec", "status"),
    "DeploymentSpec": ("selector", "template", "strategy"),
    "CronJob": ("metadata", "spec", "status"),
    "CronJobSpec": ("schedule", "jobTemplate"),
    "JobTemplateSpec": ("metadata", "spec"),
    "JobSpec": ("template",),
    "PodTemplateSpec": ("metadata", "spec"),
    "PodSpec": ("containers",),
    "Container": ("name", "resources"),
    "Role": ("metadata", "rules"),
    "ClusterRole": ("metadata", "rules"),
    "RoleBinding": ("metadata", "roleRef"),
    "ClusterRoleBinding": ("metadata", "roleRef"),
    "RoleRef": ("kind", "name"),
}
"""By struct: the fields that are there even if empty."""
_SCALARS: Final[Mapping[str, Any]] = {"string": "", "integer": 0, "boolean": False}
_POINTERS: Final = frozenset({("DeploymentSpec", "selector")})
"""Written as null."""

_MODE: Final = {"defaultMode": 0o644}
BY_STRUCT: Final[Mapping[str, Json]] = {
    "Secret": {"type": "Opaque"},
    "Container": {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"},
    "ContainerPort": {"protocol": "TCP"},
    "Probe": {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
    "HTTPGetAction": {"path": "/", "scheme": "HTTP"},
    "SecretVolumeSource": _MODE,
    "ProjectedVolumeSource": _MODE,
    "ServiceAccountTokenProjection": {"expirationSeconds": 3600},
    "PodSpec": {
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler",
        "securityContext": {},
    },
    "DeploymentSpec": {"replicas": 1, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10},
    "DeploymentStrategy": {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
    },
    "RollingUpdateDeployment": {"maxUnavailable": "25%", "maxSurge": "25%"},
    "CronJobSpec": {
        "concurrencyPolicy": "Allow",
        "suspend": False,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 1,
    },
    "ServicePort": {"protocol": "TCP"},
    "ServiceSpec": {"sessionAffinity": "None", "type": "ClusterIP", "internalTrafficPolicy": "Cluster"},
    "RoleRef": {"apiGroup": RBAC},
}


def skeleton(kind: Kind) -> Json:
    """An object of the kind before anything is in it."""
    zero: Json = _zero(kind.type)
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {}} | zero


def fill(kind: Kind, body: Json) -> Json:
    """The object as Go's structs hold it: with defaults and written structs, without null and what is empty."""
    made: Json = _fill(kind.type, body)
    if kind.name == "Namespace":
        made["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = made["metadata"]["name"]
    for subject in made.get("subjects", ()):
        if subject.get("kind") in ("User", "Group"):
            subject.setdefault("apiGroup", RBAC)
    return {**made, "apiVersion": kind.api_version, "kind": kind.name}


def _zero(kind: Type) -> Any:
    if kind.shape != "struct":
        return _SCALARS.get(kind.scalar) if kind.shape == "scalar" else None
    return {
        name: None if (kind.name, name) in _POINTERS else _zero(kind.fields[name])
        for name in _WRITTEN.get(kind.name, ())
    }


def _fill(kind: Type, value: Any) -> Any:
    if isinstance(value, list):
        return [_fill(kind.element or ANYTHING, item) for item in value]
    if not isinstance(value, dict):
        return value
    if kind.shape != "struct":
        return {name: _fill(kind.child(name) or ANYTHING, item) for name, item in value.items()}
    written = _WRITTEN.get(kind.name, ())
    made = {name: item for name, item in _zero(kind).items() if name not in value}
    for name, item in {**made, **copy_json(value)}.items():
        child = kind.child(name) or ANYTHING
        if item is None and name not in written:
            continue
        below = _fill(child, item)
        empty = below == "" or (below in ([], {}) and child.shape in ("list", "map"))
        if not empty or name in (*kind.required, *written, "managedFields"):
            made[name] = below
    for name, default in BY_STRUCT.get(kind.name, {}).items():
        made.setdefault(name, copy_json(default))
    return _derive(kind.name, made)


def _derive(struct: str, body: Json) -> Json:
    """Set the defaults that depend on other fields."""
    match struct:
        case "Container":
            name = body.get("image", "").rpartition("/")[2]
            tagged = "@" in name or (":" in name and not name.endswith(":latest"))
            body.setdefault("imagePullPolicy", "IfNotPresent" if tagged else "Always")
        case "PodSpec" if "serviceAccountName" in body:
            body["serviceAccount"] = body["serviceAccountName"]
        case "ServicePort" if "port" in body:
            body.setdefault("targetPort", body["port"])
    return body
