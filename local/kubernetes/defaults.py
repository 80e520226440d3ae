"""What the server fills in when a body leaves it out, by kind and by the structs in it."""

import base64
import copy
from collections.abc import Callable
from typing import Any

from local.kubernetes import zeros
from local.kubernetes.kinds import RBAC, Kind
from local.kubernetes.schema import ANYTHING, Type

Json = dict[str, Any]

_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_MATCHING: Json = {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}}
_VOLUME_MODE = {"defaultMode": 0o644}
_PLAIN: dict[str, Json] = {
    "Secret": {"type": "Opaque"},
    "Container": {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"},
    "ContainerPort": {"protocol": "TCP"},
    "Probe": _PROBE,
    "HTTPGetAction": {"path": "/", "scheme": "HTTP"},
    "SecretVolumeSource": _VOLUME_MODE,
    "ConfigMapVolumeSource": _VOLUME_MODE,
    "ProjectedVolumeSource": _VOLUME_MODE,
    "DownwardAPIVolumeSource": _VOLUME_MODE,
    "ServiceAccountTokenProjection": {"expirationSeconds": 3600},
    "PodSpec": {
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler",
        "securityContext": {},
    },
    "ObjectFieldSelector": {"apiVersion": "v1"},
    "DeploymentSpec": {"replicas": 1, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10},
    "CronJobSpec": {
        "concurrencyPolicy": "Allow",
        "suspend": False,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 1,
    },
    "ServicePort": {"protocol": "TCP"},
    "ServiceSpec": {"sessionAffinity": "None", "type": "ClusterIP"},
    "ValidatingWebhook": {"failurePolicy": "Fail", "timeoutSeconds": 10, **_MATCHING},
    "MatchResources": _MATCHING,
    "RuleWithOperations": {"scope": "*"},
    "NamedRuleWithOperations": {"scope": "*"},
    "ValidatingAdmissionPolicySpec": {"failurePolicy": "Fail"},
}


def fill(kind: Kind, body: Json) -> Json:
    """Changes the object in place and returns it."""
    body["apiVersion"], body["kind"] = kind.api_version, kind.name
    _fill(kind.type, body)
    _BY_KIND.get(kind.name, _nothing)(body)
    return body


def skeleton(kind: Kind) -> Json:
    """An object of the kind before anything is in it."""
    zero: Json = zeros.of(kind.type)
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {}} | zero


def _fill(kind: Type, value: Any) -> None:
    if kind.shape == "list" and isinstance(value, list):
        for item in value:
            _fill(kind.element or ANYTHING, item)
    elif isinstance(value, dict):
        for name, default in _PLAIN.get(kind.name, {}).items():
            if value.get(name) is None:
                value[name] = copy.deepcopy(default)
        for name, item in value.items():
            _fill(kind.child(name) or ANYTHING, item)
        _BY_STRUCT.get(kind.name, _nothing)(value)


def _nothing(_body: Json) -> None:
    pass


def _container(body: Json) -> None:
    name = body.get("image", "").rpartition("/")[2]
    tagged = "@" in name or (":" in name and not name.endswith(":latest"))
    body.setdefault("imagePullPolicy", "IfNotPresent" if tagged else "Always")


def _volume(body: Json) -> None:
    if not body.keys() - {"name"}:
        body["emptyDir"] = {}


def _pod_spec(body: Json) -> None:
    """`serviceAccount` is the old name of `serviceAccountName`, and both are kept alike."""
    account = body.get("serviceAccountName") or body.get("serviceAccount")
    if account:
        body["serviceAccountName"] = body["serviceAccount"] = account


def _strategy(body: Json) -> None:
    if body.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = body.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")


def _service_port(body: Json) -> None:
    body.setdefault("targetPort", body.get("port", 0))


def _service_spec(body: Json) -> None:
    if body.get("type") != "ExternalName":
        body.setdefault("internalTrafficPolicy", "Cluster")
    if body.get("type") in ("NodePort", "LoadBalancer"):
        body.setdefault("externalTrafficPolicy", "Cluster")
    if body.get("type") == "LoadBalancer":
        body.setdefault("allocateLoadBalancerNodePorts", True)


_BY_STRUCT: dict[str, Callable[[Json], None]] = {
    "Container": _container,
    "Volume": _volume,
    "PodSpec": _pod_spec,
    "DeploymentStrategy": _strategy,
    "ServicePort": _service_port,
    "ServiceSpec": _service_spec,
}


def _secret(body: Json) -> None:
    texts = body.pop("stringData", None) or {}
    if texts:
        encoded = {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
        body["data"] = body.get("data", {}) | encoded


def _namespace(body: Json) -> None:
    if body["metadata"].get("name"):
        labels = body["metadata"].setdefault("labels", {})
        labels["kubernetes.io/metadata.name"] = body["metadata"]["name"]


def _service_account(body: Json) -> None:
    """Of the references to secrets nothing but the names is kept."""
    if body.get("secrets"):
        body["secrets"] = [{"name": one["name"]} if one.get("name") else {} for one in body["secrets"]]


def _binding(body: Json) -> None:
    body["roleRef"].setdefault("apiGroup", RBAC)
    for subject in body.get("subjects") or ():
        if subject.get("kind") in ("User", "Group"):
            subject.setdefault("apiGroup", RBAC)


def _pod(body: Json) -> None:
    """Requests follow limits in a pod itself, not in a template of one."""
    spec = body["spec"]
    spec.setdefault("enableServiceLinks", True)
    for container in (*(spec.get("containers") or ()), *spec.get("initContainers", ())):
        limits = container["resources"].get("limits", {})
        if limits:
            container["resources"]["requests"] = limits | container["resources"].get("requests", {})


def _job(body: Json) -> None:
    spec, labels = body["spec"], body["spec"]["template"]["metadata"].get("labels")
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", 6)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec.setdefault("podReplacementPolicy", "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed")
    spec.setdefault("manualSelector", False)
    if labels and not body["metadata"].get("labels"):
        body["metadata"]["labels"] = copy.deepcopy(labels)


_BY_KIND: dict[str, Callable[[Json], None]] = {
    "Secret": _secret,
    "Namespace": _namespace,
    "ServiceAccount": _service_account,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
    "Pod": _pod,
    "Job": _job,
}
