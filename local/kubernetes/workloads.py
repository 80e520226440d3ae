"""Deployments, services and cron jobs: taken with the fields and values of this project's manifests, and few others.

The manifests are validated by a real API server in tests/in_cluster and tests/real. Here a field may have a value that
the manifest of the kind has at this place, the server's default, the value that it has already, or one that its rule
below allows.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from local.kubernetes import names
from local.kubernetes.calls import Json
from local.kubernetes.defaults import BY_STRUCT
from local.kubernetes.kinds import Kind
from local.kubernetes.schema import ANYTHING, Type

_MANIFESTS: Final = Path(__file__).parents[2] / "manifests"
_RULES: Final = {
    r"spec\.replicas": r"\d{1,4}",
    r"spec\.suspend": "True|False",
    r"spec\.schedule": r"\*/([1-9]|[1-5]\d) \* \* \* \*",
    r".*\.containers\[\]\.name": names.LABEL,
    r".*\.image": r"[A-Za-z0-9][A-Za-z0-9._/:@-]*",
    r".*\.imagePullPolicy": "Always|IfNotPresent",
    r"spec\.jobTemplate\..*\.restartPolicy": "OnFailure|Never",
    r".*\.(serviceAccountName|serviceAccount|imagePullSecrets\[\]\.name|secretName|configMap\.name)": names.SUBDOMAIN,
    r".*\.audience": r"\S+",
}
"""By path: what values may be, as text."""
_LABELS: Final = re.compile(r"(.*\.(labels|matchLabels)|spec\.selector)\.(.+)")


def problems(kind: Kind, made: Json, old: Json | None) -> Iterator[str]:
    """What the stand-in cannot judge in the spec."""
    known = _from_manifests(kind) | (set(_leaves(kind.type, old)) if old else set())
    for struct, path, value in _leaves(kind.type, {"spec": made["spec"]}):
        default = BY_STRUCT.get(struct, {}).get(path.rpartition(".")[2], ...)
        if (struct, path, value) not in known and value != default and not _is_allowed(path, str(value)):
            yield f"{path}: {value!r}"
    match kind.name:
        case "Service":
            if not made["spec"].get("ports"):
                yield "no ports"
        case "Deployment":
            template = made["spec"]["template"]
            wanted = (made["spec"]["selector"] or {}).get("matchLabels") or {}
            if not wanted or not wanted.items() <= template["metadata"].get("labels", {}).items():
                yield "a selector that does not match the template"
            yield from _pod_problems(template["spec"])
        case "CronJob":
            pod = made["spec"]["jobTemplate"]["spec"]["template"]["spec"]
            if pod["restartPolicy"] == "Always":
                yield "a job that restarts always"
            yield from _pod_problems(pod)


def _is_allowed(path: str, value: str) -> bool:
    label = _LABELS.fullmatch(path)
    if label:
        return bool(re.fullmatch(names.KEY, label[3]) and re.fullmatch(names.VALUE, value))
    return any(re.fullmatch(pattern, path) and re.fullmatch(rule, value) for pattern, rule in _RULES.items())


def _pod_problems(pod: Json) -> Iterator[str]:
    volumes = {volume["name"] for volume in pod.get("volumes", ()) if volume.keys() & {"secret", "projected"}}
    if len(volumes) < len(pod.get("volumes", ())):
        yield "a volume from nowhere"
    if not pod["containers"]:
        yield "no containers"
    for container in pod["containers"]:
        if not container.get("image"):
            yield "a container without an image"
        if not {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes:
            yield "a mount without a volume"
        if not all("httpGet" in container[probe] for probe in container if probe.endswith("Probe")):
            yield "a probe that asks nothing"
    sources = [source for volume in pod.get("volumes", ()) for source in volume.get("projected", {}).get("sources", ())]
    if not all(len(source) == 1 and next(iter(source.values())) for source in sources):
        yield "a projection of nothing, or of two things"


@cache
def _from_manifests(kind: Kind) -> frozenset[tuple[str, str, Any]]:
    documents = [
        document for path in _MANIFESTS.glob("*.yaml") for document in yaml.load_all(path.read_text(), yaml.CSafeLoader)
    ]
    ours = [document for document in documents if document["kind"] == kind.name]
    return frozenset(leaf for document in ours for leaf in _leaves(kind.type, document))


def _leaves(kind: Type, value: Any, path: str = "", struct: str = "") -> Iterator[tuple[str, str, Any]]:
    """Each scalar: the struct that it is in, its path without indices, and its value. Empty parts count as {}."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(kind.child(name) or ANYTHING, item, f"{path}.{name}" if path else name, kind.name)
    elif isinstance(value, list) and value:
        for item in value:
            yield from _leaves(kind.element or ANYTHING, item, f"{path}[]", struct)
    elif value not in ({}, [], None):
        yield struct, path, value
