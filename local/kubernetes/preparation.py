"""What the server decides about an object whatever its body says, before it is validated."""

import copy
import ipaddress
import uuid
from typing import Any

from local.kubernetes.defaults import skeleton
from local.kubernetes.kinds import Kind

Json = dict[str, Any]

_SERVICE_ADDRESSES = ipaddress.ip_network("10.0.0.0/24")


def for_create(kind: Kind, body: Json) -> None:
    if kind.generation:
        body["metadata"]["generation"] = 1
    if kind.status:
        body["status"] = copy.deepcopy(skeleton(kind).get("status", {}))
    if kind.name == "Namespace":
        finalizers = body["spec"].setdefault("finalizers", [])
        if "kubernetes" not in finalizers:
            finalizers.append("kubernetes")
        body["status"] = {"phase": "Active"}
    elif kind.name in ("Role", "ClusterRole"):
        _role(body)
    elif kind.name == "Pod":
        _pod(body)
    elif kind.name == "Job":
        _job(body)
    elif kind.name == "Service":
        _service(body)


def for_update(kind: Kind, body: Json, old: Json) -> None:
    """A write to the main resource."""
    if kind.status:
        body["status"] = old["status"]
    if kind.name in ("Role", "ClusterRole"):
        _role(body)
    if kind.name == "Namespace":
        body["spec"] = old["spec"]
        body["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = body["metadata"]["name"]


def for_status(body: Json, old: Json) -> None:
    """A write to the status."""
    body["spec"] = old["spec"]


def _role(body: Json) -> None:
    """Storage does not tell no rules from an empty list of them."""
    body["rules"] = body.get("rules") or None


def _pod(body: Json) -> None:
    spec = body["spec"]
    spec.setdefault("priority", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    tolerations = spec.setdefault("tolerations", [])
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(one.get("key") in (None, key) and one.get("effect") in (None, "NoExecute") for one in tolerations):
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    body["metadata"]["generation"] = 1
    body["status"] = {"phase": "Pending", "qosClass": _quality(spec)}


def _quality(spec: Json) -> str:
    resources = [one.get("resources", {}) for one in (*spec["containers"], *spec.get("initContainers", ()))]
    if not any(one.get("requests") or one.get("limits") for one in resources):
        return "BestEffort"
    bounded = all({"cpu", "memory"} <= one.get("limits", {}).keys() for one in resources)
    equal = all(one.get("requests") == one.get("limits") for one in resources)
    return "Guaranteed" if bounded and equal else "Burstable"


def _job(body: Json) -> None:
    if body["spec"].get("manualSelector"):
        return
    uid, name = body["metadata"]["uid"], body["metadata"].get("name", "")
    labels = body["spec"]["template"]["metadata"].setdefault("labels", {})
    # Labels that the job took over from its template stay the template's, additions included.
    own = body["metadata"].get("labels") or labels
    taken_over = own == labels
    for prefix in ("", "batch.kubernetes.io/"):
        labels |= {f"{prefix}controller-uid": uid, f"{prefix}job-name": name}
    body["metadata"]["labels"] = copy.deepcopy(labels) if taken_over else own
    body["spec"]["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}


def _service(body: Json) -> None:
    """An address that follows from the uid: it need not be unique, as nobody serves it."""
    spec = body["spec"]
    if spec.get("type") == "ExternalName":
        return
    host = 1 + uuid.UUID(body["metadata"]["uid"]).int % (_SERVICE_ADDRESSES.num_addresses - 2)
    address = spec.setdefault("clusterIP", str(_SERVICE_ADDRESSES[host]))
    spec["clusterIPs"] = [address]
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
