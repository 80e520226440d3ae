"""What clients ask before they start: groups, resources, version."""

import base64
import hashlib
from typing import Any

from local.kubernetes import kinds, openapi, reviews
from local.kubernetes.kinds import EVERY_VERB, Kind

Json = dict[str, Any]

VERSION: Json = {
    "major": "1",
    "minor": "37",
    "gitVersion": "v1.37.2",
    "emulationMajor": "1",
    "emulationMinor": "37",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "36",
    "gitCommit": "$Format:%H$",
    "gitTreeState": "",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "go1.26.8",
    "compiler": "gc",
    "platform": "linux/amd64",
}


def lookup(path: str, address: str) -> Json | None:
    """The document at a path, or None. `address` is the server's host and port."""
    found: Json | None = None
    match path.strip("/").split("/"):
        case ["version"]:
            found = VERSION
        case ["openapi", *_]:
            found = openapi.lookup(path)
        case ["api"]:
            found = _api_versions(address)
        case ["apis"]:
            groups = [_group(name) for name in _groups()]
            found = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["apis", group] if group in _groups():
            found = {"kind": "APIGroup", "apiVersion": "v1", **_group(group)}
        case ["api", "v1"]:
            found = _resources("")
        case ["apis", group, "v1"] if group in _groups():
            found = _resources(group)
    return found


def knows(group: str, version: str) -> bool:
    return version == "v1" and (not group or group in _groups())


def _groups() -> tuple[str, ...]:
    return (*kinds.groups(), *reviews.GROUPS)


def _api_versions(address: str) -> Json:
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def _group(name: str) -> Json:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resources(group: str) -> Json:
    resources = [line for kind in kinds.of_group(group) for line in _lines(kind)]
    for kind in reviews.KINDS.values():
        if kind.group == group:
            line = {"name": kind.plural, "singularName": kind.singular, "namespaced": False, "kind": kind.name}
            resources.append({**line, "verbs": ["create"]})
    version = f"{group}/v1" if group else "v1"
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


def _lines(kind: Kind) -> list[Json]:
    line: Json = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.name,
        "verbs": list(EVERY_VERB),
    }
    if kind.short:
        line["shortNames"] = list(kind.short)
    if kind.categories:
        line["categories"] = kind.categories
    line["storageVersionHash"] = _hash(kind)
    lines = [line]
    if kind.name == "Namespace":
        line["verbs"] = [verb for verb in EVERY_VERB if verb != "deletecollection"]
        lines.append(_part(kind, "finalize", ["update"]))
    if kind.status:
        lines.append(_part(kind, "status", ["get", "patch", "update"]))
    return lines


def _hash(kind: Kind) -> str:
    """How clients see that a kind is stored in another version than before."""
    digest = hashlib.sha256(f"{kind.group}/{kind.version}/{kind.name}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()


def _part(kind: Kind, name: str, verbs: list[str]) -> Json:
    return {
        "name": f"{kind.plural}/{name}",
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": kind.name,
        "verbs": verbs,
    }
