"""JSON patches (RFC 6902: add, remove and test) and merge patches (RFC 7386)."""

from typing import Any, Final

from local.kubernetes.calls import Call, Json
from local.kubernetes.refusals import not_played
from local.kubernetes.store import copy_json

_OPERATIONS: Final = {"add": {"op", "path", "value"}, "remove": {"op", "path"}, "test": {"op", "path", "value"}}


def apply(call: Call, document: Json, patch: Any) -> Json:
    """The new object. Raises Refusal: 422 for a JSON patch that does not fit the object, 501 for one not played."""
    if call.verb == "merge patch":
        if not isinstance(patch, dict):
            raise not_played("a merge patch that is no object")
        merged: Json = _merge(document, patch)
        return merged
    if not isinstance(patch, list):
        raise not_played("a JSON patch that is no list")
    patched = copy_json(document)
    for operation in patch:
        if not isinstance(operation, dict) or _OPERATIONS.get(operation.get("op", "")) != operation.keys():
            raise not_played(f"the operation {operation} of a JSON patch")
        try:
            _operate(patched, operation)
        except (LookupError, TypeError):
            raise call.refuse("json-patch-unfit") from None
    made: Json = patched
    return made


def _merge(target: Any, patch: Any) -> Any:
    """RFC 7386: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged


def _operate(document: Any, operation: Json) -> None:
    """Raises LookupError or TypeError for one that does not fit."""
    steps = [step.replace("~1", "/").replace("~0", "~") for step in str(operation["path"]).split("/")]
    if len(steps) == 1 or steps[0]:
        raise not_played(f"the path {operation['path']!r} in a JSON patch")
    *above, last = steps[1:]
    holder = document
    for step in above:
        holder = holder[_index(step) if isinstance(holder, list) else step]
    key: Any = last if isinstance(holder, dict) or last == "-" else _index(last)
    match operation["op"]:
        case "test" if _find(holder, key) != operation["value"]:
            raise LookupError(last)
        case "remove":
            del holder[key]
        case "add" if isinstance(holder, dict):
            holder[key] = copy_json(operation["value"])
        case "add" if key == "-":
            holder.append(copy_json(operation["value"]))
        case "add":
            if key > len(holder):
                raise IndexError(last)
            holder.insert(key, copy_json(operation["value"]))


def _find(holder: Any, key: Any) -> Any:
    """What is missing is null to `test`, as in the library that the API server uses."""
    try:
        return holder[key]
    except LookupError:
        return None


def _index(step: str) -> int:
    if not (step.isascii() and step.isdecimal()):
        raise not_played(f"the index {step!r} in a JSON patch")
    return int(step)
