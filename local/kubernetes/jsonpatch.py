"""JSON patches (RFC 6902) and merge patches (RFC 7386)."""

import copy
from typing import Any

from local.kubernetes import status

Json = dict[str, Any]

OPERATIONS_LIMIT = 10_000
_UNFIT = "the server rejected our request due to an error in our request"


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386: null takes away, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def apply(document: Json, operations: list[Json]) -> Json:
    """RFC 6902. Raises ApiError 422 with a bare message when an operation or `test` does not fit, 413 for too many."""
    if len(operations) > OPERATIONS_LIMIT:
        raise status.too_many_operations(OPERATIONS_LIMIT, len(operations))
    patched: Any = copy.deepcopy(document)
    for operation in operations:
        try:
            patched = _operate(patched, operation)
        except (LookupError, TypeError, ValueError):
            raise status.unprocessable(_UNFIT) from None
    if not isinstance(patched, dict):
        raise status.unprocessable(_UNFIT)
    return patched


def _operate(document: Any, operation: Json) -> Any:
    path = _steps(operation["path"])
    match operation["op"]:
        case "add":
            return _put(document, path, copy.deepcopy(operation["value"]))
        case "remove":
            return _take(document, path)
        case "replace":
            _find(document, path)
            return _put(_take(document, path), path, copy.deepcopy(operation["value"])) if path else operation["value"]
        case "move":
            moved = _find(document, _steps(operation["from"]))
            return _put(_take(document, _steps(operation["from"])), path, moved)
        case "copy":
            return _put(document, path, copy.deepcopy(_find(document, _steps(operation["from"]))))
        case "test":
            _test(document, path, operation.get("value"))
            return document
    raise ValueError(f"unknown operation {operation['op']}")


def _steps(pointer: str) -> list[str]:
    """Raises ValueError for a pointer that does not begin at the root."""
    if pointer and not pointer.startswith("/"):
        raise ValueError(pointer)
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def _index(values: list[Any], step: str) -> int:
    """Negative indices count from the end, as in the library that the API server uses."""
    position = int(step)
    if not -len(values) <= position < len(values):
        raise IndexError(step)
    return position


def _find(document: Any, path: list[str]) -> Any:
    for step in path:
        document = document[_index(document, step)] if isinstance(document, list) else document[step]
    return document


def _put(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    *above, last = path
    holder = _find(document, above)
    if isinstance(holder, dict):
        holder[last] = value
    elif last == "-":
        holder.append(value)
    else:
        position = int(last)
        if not -len(holder) - 1 <= position <= len(holder):
            raise IndexError(last)
        holder.insert(position if position >= 0 else len(holder) + 1 + position, value)
    return document


def _take(document: Any, path: list[str]) -> Any:
    *above, last = path
    holder = _find(document, above)
    if isinstance(holder, list):
        del holder[_index(holder, last)]
    else:
        del holder[last]
    return document


def _test(document: Any, path: list[str], value: Any) -> None:
    try:
        found = _find(document, path)
    except LookupError:
        found = None  # the library takes what is missing for null
    if found != value:
        raise ValueError("test failed")
