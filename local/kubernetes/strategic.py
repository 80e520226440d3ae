"""Strategic merge patches: they know which lists are maps by a key, and take directions (`$patch` and its kin)."""

import copy
from typing import Any

from local.kubernetes import status
from local.kubernetes.conformity import go_value
from local.kubernetes.schema import ANYTHING, Type

Json = dict[str, Any]

_ORDER, _FROM, _RETAIN = "$setElementOrder/", "$deleteFromPrimitiveList/", "$retainKeys"


def merge(kind: Type, target: Json, patch: Json) -> Json:
    """The patched object. Raises ApiError 500 for a direction that does not exist."""
    directive = patch.get("$patch")
    if directive == "replace":
        return {name: value for name, value in patch.items() if name != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise status.broken(f"unknown patch type: {directive} in map: {go_value(patch)}")
    merged = copy.deepcopy(target)
    if _RETAIN in patch:
        merged = {name: value for name, value in merged.items() if name in patch[_RETAIN]}
    for name, value in patch.items():
        if name.startswith(_FROM):
            field = name.removeprefix(_FROM)
            merged[field] = [item for item in merged.get(field) or [] if item not in value]
        elif not name.startswith("$"):
            _merge_field(kind.child(name) or ANYTHING, merged, name, value, patch.get(_ORDER + name))
    for name, value in patch.items():
        field = name.removeprefix(_ORDER)
        if name.startswith(_ORDER) and field not in patch:
            merged[field] = _ordered(kind.child(field) or ANYTHING, merged.get(field) or [], value)
    return merged


def _merge_field(kind: Type, merged: Json, name: str, value: Any, order: list[Any] | None) -> None:
    current = merged.get(name)
    if value is None:
        merged.pop(name, None)
    elif isinstance(value, dict) and "replace" not in kind.strategy:
        merged[name] = merge(kind, current if isinstance(current, dict) else {}, value)
    elif isinstance(value, list) and "merge" in kind.strategy:
        live = [item for item in value if not (isinstance(item, dict) and "$patch" in item)]
        merged[name] = _ordered(kind, _merge_list(kind, current or [], value), order or live, current or [])
    else:
        merged[name] = value


def _merge_list(kind: Type, current: list[Any], patch: list[Any]) -> list[Any]:
    key = kind.merge_key
    if not key:
        return [*current, *(item for item in patch if item not in current)]
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if item.get("$patch") != "replace"]
    element = kind.element or ANYTHING
    gone = [item[key] for item in patch if item.get("$patch") == "delete"]
    merged = [item for item in current if item.get(key) not in gone]
    for item in patch:
        if item.get("$patch") == "delete":
            continue
        if key not in item:
            raise status.broken(f"map: {go_value(item)} does not contain declared merge key: {key}")
        at = next((index for index, one in enumerate(merged) if one.get(key) == item[key]), None)
        if at is None:
            merged.append(merge(element, {}, item))
        else:
            merged[at] = merge(element, merged[at], item)
    return merged


def _ordered(kind: Type, merged: list[Any], wanted: list[Any], before: list[Any] | None = None) -> list[Any]:
    """What the patch names comes in the patch's order; the rest slips in where it stood before relative to that."""

    def name_of(item: Any) -> Any:
        return item.get(kind.merge_key) if kind.merge_key else item

    places = [name_of(item) for item in (merged if before is None else before)]
    asked = [name_of(item) for item in wanted]
    named = sorted((item for item in merged if name_of(item) in asked), key=lambda item: asked.index(name_of(item)))
    others = [item for item in merged if name_of(item) not in asked]
    ordered = []
    while named and others:
        first, other = name_of(named[0]), name_of(others[0])
        behind = first in places and other in places and places.index(other) < places.index(first)
        ordered.append((others if behind else named).pop(0))
    return [*ordered, *named, *others]
