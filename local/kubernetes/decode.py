"""From bytes to an object of a kind, and what the server says of bytes that are none.

The two ways in fail differently on the real server. POST, PUT and the plain patches decode into Go structs: 400. Apply
checks the schema and converts afterwards: 500 without a reason, for ever.
"""

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any

import yaml

from local.kubernetes import status
from local.kubernetes.kinds import Kind
from local.kubernetes.schema import ANYTHING, Type

Json = dict[str, Any]

JSON_NAMES: dict[type, str] = {
    bool: "bool",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


@dataclass(slots=True)
class Findings:
    """What a strict look at a body found: fields that the kind does not have."""

    unknown: list[str] = field(default_factory=list)

    def render(self) -> str:
        return ", ".join(f'unknown field "{path}"' for path in self.unknown)


def json_object(body: bytes) -> Json:
    """Raises ValueError with a sentence for what is no JSON object."""
    try:
        value = json.loads(body)
    except ValueError as error:
        raise ValueError(f"invalid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"json: cannot unmarshal {JSON_NAMES.get(type(value), 'null')} into an object")  # noqa: TRY004
    return value


def yaml_object(body: bytes) -> Json:
    """The body of an apply: YAML, or JSON, which is YAML too. Raises ApiError 400."""
    try:
        value = json.loads(body) if body.lstrip().startswith(b"{") else yaml.load(body, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (ValueError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise status.bad_request(f"error decoding patch: error converting YAML to JSON: yaml: {said}") from None
    if not isinstance(value, dict):
        kind = JSON_NAMES.get(type(value), "null")
        raise status.bad_request(
            f"error decoding patch: json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
        )
    return value


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: a date stays the text that it is."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def summary(body: Json, namespace: str = "", name: str = "") -> str:
    meta = body.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    return f"{meta.get('namespace', namespace)}/{meta.get('name', name)}"


def convert_applied(kind: Kind, body: Json) -> Json:
    """The merged object as Go's structs would hold it. Raises ApiError 500 for what they cannot hold."""
    try:
        return shaped(kind, body, Findings())
    except ValueError as error:
        said = f"failed to convert new object ({summary(body)}; {kind.gvk}) to proper version: {error}"
        raise status.broken(said) from None


def convert_written(kind: Kind, body: Json, findings: Findings) -> Json:
    """The body of a POST or PUT as Go's structs would hold it. Raises ApiError 400."""
    try:
        return shaped(kind, body, findings)
    except ValueError as error:
        raise unhandled(kind, str(error)) from None


def unhandled(kind: Kind, why: str) -> status.ApiError:
    return status.bad_request(f'{kind.name} in version "v1" cannot be handled as a {kind.name}: {why}')


def shaped(kind: Kind, body: Json, findings: Findings) -> Json:
    """Without what an encoder leaves out (null, empty optional strings, lists and maps) and without unknown fields.

    Raises ValueError for a value of the wrong type and for bad base64.
    """
    made = _shaped(kind.type, body, kind.name, "", findings)
    made.setdefault("metadata", {})
    return dict(made)


def _shaped(kind: Type, value: Any, go_path: str, path: str, findings: Findings) -> Any:
    if kind.shape == "scalar":
        _check_scalar(kind, value, go_path)
        return value
    if not isinstance(value, list if kind.shape == "list" else dict):
        raise _unfit(value, go_path, "slice" if kind.shape == "list" else "object")
    if isinstance(value, list):
        element = kind.element or ANYTHING
        return [_shaped(element, item, go_path, f"{path}[{at}]", findings) for at, item in enumerate(value)]
    made = {}
    for name, item in value.items():
        here = f"{path}.{name}" if path else name
        child = kind.child(name)
        if child is None:
            findings.unknown.append(here)
        elif item is not None:
            below = _shaped(child, item, f"{go_path}.{name}", here, findings)
            if kind.shape == "map" or name in kind.required or not _omitted(child, below):
                made[name] = below
    return made


def _omitted(kind: Type, value: Any) -> bool:
    return value == "" or (value in ([], {}) and kind.shape in ("list", "map"))


def _check_scalar(kind: Type, value: Any, go_path: str) -> None:
    allowed: dict[str, tuple[type, ...]] = {
        "string": (str,),
        "integer": (int,),
        "number": (int, float),
        "boolean": (bool,),
        "quantity": (str, int, float),
        "int-or-string": (int, str),
    }
    types = allowed.get(kind.scalar)
    if types is None:
        return
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        wanted = {"integer": kind.format or "int64", "boolean": "bool"}.get(kind.scalar, kind.scalar)
        raise _unfit(value, go_path, wanted)
    if kind.format == "byte":
        check_base64(str(value))


def _unfit(value: object, go_path: str, wanted: str) -> ValueError:
    named = JSON_NAMES.get(type(value), "null")
    return ValueError(f"json: cannot unmarshal {named} into Go struct field {go_path} of type {wanted}")


def check_base64(text: str) -> bytes:
    """Go's strict standard decoding. Raises ValueError with Go's words."""
    squeezed = text.replace("\n", "").replace("\r", "")
    try:
        return base64.b64decode(squeezed, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"illegal base64 data at input byte {_first_illegal(squeezed)}") from None


def _first_illegal(text: str) -> int:
    body = text.rstrip("=") if len(text) % 4 == 0 else text
    for at, character in enumerate(body):
        if not (character.isascii() and (character.isalnum() or character in "+/")):
            return at
    return len(body) - len(body) % 4
