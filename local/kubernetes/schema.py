"""The types of the API, as server-side apply sees them: which lists are atomic, which are maps, and by which keys.

They come from Kubernetes' own OpenAPI document, which the package kubernetes-validate carries with the
`x-kubernetes-*` marks. It lacks the defaults; those that act as list keys are in `KEY_DEFAULTS`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

VERSION: Final = "1.37.0"
KEY_DEFAULTS: Final = {"protocol": "TCP"}
"""Keys of associative lists that may be left out."""

Scalar = Literal["string", "integer", "number", "boolean", "quantity", "int-or-string", "any"]


@dataclass(frozen=True, slots=True)
class Type:
    """A node of the schema. `shape` decides which of the other attributes mean anything."""

    shape: Literal["scalar", "struct", "map", "list"]
    scalar: Scalar = "any"
    name: str = ""
    """Of a struct, in Go and in the document alike: `ObjectMeta`."""
    fields: Mapping[str, "Type"] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    element: "Type | None" = None
    atomic: bool = False
    keys: tuple[str, ...] = ()
    """Of a list: the fields that identify an element. Empty: its value does (a set), unless atomic."""

    def child(self, name: str) -> "Type | None":
        """The type under a field or key; None where the schema knows no such field."""
        return self.element if self.shape == "map" else self.fields.get(name)


ANYTHING: Final = Type("scalar")


@cache
def _definitions() -> dict[str, Any]:
    document = files("kubernetes_validate").joinpath("kubernetes-json-schema", f"v{VERSION}-local", "_definitions.json")
    definitions: dict[str, Any] = json.loads(document.read_text())["$defs"]
    return definitions


@cache
def definition(name: str) -> Type:
    """The type under its OpenAPI name, e.g. `io.k8s.api.core.v1.Secret`. Raises KeyError."""
    if name.endswith(".Quantity"):
        return Type("scalar", "quantity", "Quantity")
    if name.endswith(".IntOrString"):
        return Type("scalar", "int-or-string")
    return replace(_build(_definitions()[name]), name=name.rpartition(".")[2])


def _build(node: Mapping[str, Any]) -> Type:
    atomic = node.get("x-kubernetes-map-type") == "atomic"
    if "$ref" in node:
        target = definition(node["$ref"].rpartition("/")[2])
        return replace(target, atomic=atomic or target.atomic)
    kind = _plain(node.get("type"))
    if kind == "array":
        keys = tuple(node.get("x-kubernetes-list-map-keys", ()))
        atomic = node.get("x-kubernetes-list-type", "atomic") == "atomic"
        return Type("list", element=_build(node["items"]), atomic=atomic, keys=keys)
    if "properties" in node:
        fields = {name: _build(value) for name, value in node["properties"].items()}
        return Type("struct", fields=fields, required=tuple(node.get("required", ())), atomic=atomic)
    if "additionalProperties" in node:
        return Type("map", element=_build(node["additionalProperties"]), atomic=atomic)
    if kind in ("string", "integer", "number", "boolean"):
        return Type("scalar", kind)  # type: ignore[arg-type]
    return ANYTHING


def _plain(kind: object) -> str:
    """The document has ["string", "null"] for an optional string."""
    if isinstance(kind, list):
        return next((one for one in kind if one != "null"), "")
    return str(kind or "")
