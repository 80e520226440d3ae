"""Strategic merge patches: they know which lists are maps by a key, and take directions (`$patch` and its kin)."""

import copy
from typing import Any

from local.kubernetes import status
from local.kubernetes.schema import ANYTHING, Type

Json = dict[str, Any]

_ORDER, _FROM, _RETAIN = "$setElementOrder/", "$deleteFromPrimitiveList/", "$retainKeys"


def merge(kind: Type, target: Json, patch: Json) -> Json:
    """The patched object. Raises ApiError 400 for a direction that does not exist."""
    directive = patch.get("$patch")
    if directive == "replace":
        return {name: value for name, value in patch.items() if name != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise status.bad_request(f'unrecognized patch: "{directive}"')
    merged = copy.deepcopy(target)
    if _RETAIN in patch:
        merged = {name: value for name, value in merged.items() if name in patch[_RETAIN]}
    for name, value in patch.items():
        if name.startswith(_FROM):
            field = name.removeprefix(_FROM)
            merged[field] = [item for item in merged.get(field) or [] if item not in value]
        elif not name.startswith("$"):
            _merge_field(kind.child(name) or ANYTHING, merged, name, value)
    for name, value in patch.items():
        if name.startswith(_ORDER):
            field = name.removeprefix(_ORDER)
            merged[field] = _ordered(kind.child(field) or ANYTHING, merged.get(field) or [], value)
    return merged


def _merge_field(kind: Type, merged: Json, name: str, value: Any) -> None:
    current = merged.get(name)
    if value is None:
        merged.pop(name, None)
    elif isinstance(value, dict) and "replace" not in kind.strategy:
        merged[name] = merge(kind, current if isinstance(current, dict) else {}, value)
    elif isinstance(value, list) and "merge" in kind.strategy:
        merged[name] = _merge_list(kind, current or [], value)
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
            raise status.broken(f"map: {item} does not contain declared merge key: {key}")
        at = next((index for index, one in enumerate(merged) if one.get(key) == item[key]), None)
        if at is None:
            merged.append(merge(element, {}, item))
        else:
            merged[at] = merge(element, merged[at], item)
    return merged


def _ordered(kind: Type, current: list[Any], order: list[Any]) -> list[Any]:
    """What the order names comes in that order; the rest stays where it was among the others."""
    key = kind.merge_key
    wanted = [item[key] if key else item for item in order]

    def place(item: Any) -> int | None:
        name = item.get(key) if key else item
        return wanted.index(name) if name in wanted else None

    named = sorted((item for item in current if place(item) is not None), key=lambda item: place(item) or 0)
    filled = iter(named)
    return [item if place(item) is None else next(filled) for item in current]
