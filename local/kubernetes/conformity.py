"""Whether an applied configuration fits the schema, in the words of structured-merge-diff and Go."""

import json
from collections.abc import Iterator
from typing import Any

from local.kubernetes import status
from local.kubernetes.decode import summary
from local.kubernetes.fields import render
from local.kubernetes.kinds import Kind
from local.kubernetes.schema import ANYTHING, Type
from local.kubernetes.typed import element_of

Json = dict[str, Any]

_GO_NAMES: dict[type, str] = {
    bool: "bool",
    int: "int64",
    float: "float64",
    str: "string",
    list: "[]interface {}",
    dict: "map[string]interface {}",
}


def check(kind: Kind, body: Json) -> None:
    """Raises ApiError 500 when the schema does not know a field, or knows it as something else."""
    found = list(_mismatches(kind.type, body, ""))
    if not found:
        return
    said = found[0] if len(found) == 1 else "errors:\n" + "\n".join(f"  {line}" for line in found)
    raise status.broken(f"failed to create typed patch object ({summary(body)}; {kind.gvk}): {said}")


def _mismatches(kind: Type, value: Any, path: str) -> Iterator[str]:
    if value is None:
        return
    if kind.shape == "scalar":
        said = _scalar_mismatch(kind, value)
        if said:
            yield f"{path}: {said}"
    elif kind.shape == "list":
        if isinstance(value, list):
            yield from _list_mismatches(kind, value, path)
        else:
            yield f"{path}: expected list, got &{{{go_value(value)}}}"
    elif not isinstance(value, dict):
        yield f"{path}: expected map, got &{{{go_value(value)}}}"
    else:
        for name, below in value.items():
            child = kind.child(name)
            if child is None:
                yield f"{path}.{name}: field not declared in schema"
                return  # as the real check: what it finds after this is left to chance
            else:
                yield from _mismatches(child, below, f"{path}.{name}")


def _list_mismatches(kind: Type, value: list[Any], path: str) -> Iterator[str]:
    seen = set()
    for index, item in enumerate(value):
        here = f"{path}[{index}]"
        if not kind.atomic:
            if kind.keys and not isinstance(item, dict):
                yield f"{path}: element {index}: associative list with keys may not have non-map elements"
                return
            try:
                element = element_of(kind, item)
            except KeyError:
                listed = " ".join(f'"{key}"' for key in kind.keys)
                yield (
                    f"{path}: element {index}: associative list with keys has an element that omits all key fields "
                    f"[{listed}] (and doesn't have default values for any key fields)"
                )
                return
            here = f"{path}{render((element,))}"
            if element in seen:
                yield f"{path}: duplicate entries for key {render((element,))}"
            seen.add(element)
        yield from _mismatches(kind.element or ANYTHING, item, here)


def _scalar_mismatch(kind: Type, value: Any) -> str:
    if kind.scalar == "string" and not isinstance(value, str):
        return f"expected string, got &value.valueUnstructured{{Value:{_go_syntax(value)}}}"
    if kind.scalar in ("integer", "number") and (isinstance(value, bool) or not isinstance(value, int | float)):
        return f"expected numeric (int or float), got {_GO_NAMES[type(value)]}"
    if kind.scalar == "boolean" and not isinstance(value, bool):
        return f"expected boolean, got &{{{go_value(value)}}}"
    if kind.scalar in ("quantity", "int-or-string") and isinstance(value, dict | list):
        return f"expected any scalar, got &{{{go_value(value)}}}"
    return ""


def go_value(value: Any) -> str:
    """As Go's %v prints it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + " ".join(go_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{name}:{go_value(value[name])}" for name in sorted(value)) + "]"
    return "<nil>" if value is None else str(value)


def _go_syntax(value: Any) -> str:
    """As Go's %#v prints it."""
    if isinstance(value, list):
        return "[]interface {}{" + ", ".join(_go_syntax(item) for item in value) + "}"
    if isinstance(value, dict):
        inside = ", ".join(f'"{name}":{_go_syntax(value[name])}' for name in sorted(value))
        return "map[string]interface {}{" + inside + "}"
    return json.dumps(value) if isinstance(value, str) else go_value(value)
