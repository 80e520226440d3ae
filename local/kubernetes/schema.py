"""The types of the API, as server-side apply sees them: which lists are atomic, which are maps, and by which keys.

They come from Kubernetes' own OpenAPI document, which the package kubernetes-validate carries without loss of the
`x-kubernetes-*` marks. What it lost are the defaults; the few that act as list keys stand in `KEY_DEFAULTS`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal

VERSION = "1.37.0"

# Keys of associative lists that may be left out: the real schema has these as defaults.
KEY_DEFAULTS = {"protocol": "TCP"}

Scalar = Literal["string", "integer", "number", "boolean", "quantity", "int-or-string", "any"]


@dataclass(frozen=True, slots=True)
class Type:
    """A node of the schema. `shape` decides which of the other attributes mean anything."""

    shape: Literal["scalar", "struct", "map", "list"]
    scalar: Scalar = "any"
    name: str = ""
    """Of a struct, in Go and in the document alike: `ObjectMeta`."""
    format: str = ""
    fields: Mapping[str, "Type"] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    element: "Type | None" = None
    atomic: bool = False
    keys: tuple[str, ...] = ()
    """Of a list: its elements are told apart by these fields. Empty: by their value (a set), unless atomic."""
    merge_key: str = ""
    """Strategic merge patches merge the list by this field."""
    strategy: tuple[str, ...] = ()
    """x-kubernetes-patch-strategy: merge, replace, retainKeys."""

    def child(self, name: str) -> "Type | None":
        """The type under a field or key; None where the schema knows no such field."""
        return self.element if self.shape == "map" else self.fields.get(name)

    @property
    def go_type(self) -> str:
        """As Go's decoder names it when a value does not fit."""
        if self.shape == "struct":
            return f"v1.{self.name}"
        if self.shape == "scalar":
            return {"byte": "[]uint8", "int32": "int32", "int64": "int64"}.get(self.format) or self._go_scalar
        element = self.element.go_type if self.element else "interface {}"
        return f"[]{element}" if self.shape == "list" else f"map[string]{element}"

    @property
    def _go_scalar(self) -> str:
        return {"boolean": "bool", "integer": "int64", "number": "float64"}.get(self.scalar, "string")


ANYTHING = Type("scalar")


@cache
def _definitions() -> dict[str, Any]:
    document = files("kubernetes_validate").joinpath("kubernetes-json-schema", f"v{VERSION}-local", "_definitions.json")
    definitions: dict[str, Any] = json.loads(document.read_text())["$defs"]
    return definitions


@cache
def definition(name: str) -> Type:
    """The type under its OpenAPI name, e.g. `io.k8s.api.core.v1.Secret`.

    Raises KeyError for a name that the document does not have.
    """
    if name.endswith(".Quantity"):
        return Type("scalar", "quantity", "Quantity")
    if name.endswith(".IntOrString"):
        return Type("scalar", "int-or-string")
    return replace(_build(_definitions()[name]), name=name.rpartition(".")[2])


def _plain(kind: object) -> str:
    """The document says ["string", "null"] for an optional string."""
    if isinstance(kind, list):
        return next((one for one in kind if one != "null"), "")
    return str(kind or "")


def _build(node: Mapping[str, Any]) -> Type:
    marks: dict[str, Any] = {
        "merge_key": node.get("x-kubernetes-patch-merge-key", ""),
        "strategy": tuple(filter(None, node.get("x-kubernetes-patch-strategy", "").split(","))),
    }
    if "$ref" in node:
        target = definition(node["$ref"].rpartition("/")[2])
        atomic = target.atomic or node.get("x-kubernetes-map-type") == "atomic"
        return replace(target, atomic=atomic, **{name: mark for name, mark in marks.items() if mark})
    kind = _plain(node.get("type"))
    if kind == "array":
        keys = tuple(node.get("x-kubernetes-list-map-keys", ()))
        atomic = node.get("x-kubernetes-list-type", "atomic") == "atomic"
        return Type("list", element=_build(node["items"]), atomic=atomic, keys=keys, **marks)
    atomic = node.get("x-kubernetes-map-type") == "atomic"
    if "properties" in node:
        fields = {name: _build(value) for name, value in node["properties"].items()}
        required = tuple(node.get("required", ()))
        return Type("struct", fields=fields, required=required, atomic=atomic, **marks)
    if "additionalProperties" in node:
        return Type("map", element=_build(node["additionalProperties"]), atomic=atomic, **marks)
    if kind in ("string", "integer", "number", "boolean"):
        return Type("scalar", kind, format=node.get("format", ""), **marks)  # type: ignore[arg-type]
    return ANYTHING
