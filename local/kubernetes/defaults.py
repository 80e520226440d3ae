"""What the server writes into an object that leaves it out: defaults, and the empty structs that Go's encoder keeps.

Both decide about ownership, which is more than looks: who creates an object by POST owns its defaults, and no one ever
owns a bare `f:spec`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from local.kubernetes.kinds import RBAC, Kind
from local.kubernetes.schema import ANYTHING, Type
from local.kubernetes.store import copy_json

Json = dict[str, Any]

_DATA: Final = json.loads(Path(__file__).with_name("defaults.json").read_text(encoding="utf-8"))
_WRITTEN: Final[Mapping[str, list[str]]] = _DATA["written"]
"""By struct: the fields that are there even if empty."""
_SCALARS: Final[Mapping[str, Any]] = {"string": "", "integer": 0, "boolean": False}
_POINTERS: Final = frozenset({("DeploymentSpec", "selector")})
"""Written as null."""
BY_STRUCT: Final[Mapping[str, Json]] = _DATA["defaults"]


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
