"""Label and field selectors of lists."""

import re
from collections.abc import Callable
from typing import Any

from local.kubernetes import status

Json = dict[str, Any]
Matcher = Callable[[Json], bool]

_SET = re.compile(r"\s*([\w./-]+)\s+(in|notin)\s+\(([^)]*)\)\s*")
_EQUAL = re.compile(r"\s*([\w./-]+)\s*(!=|==|=)\s*([\w.-]*)\s*")
_EXISTS = re.compile(r"\s*(!?)\s*([\w./-]+)\s*")
_FIELDS = ("metadata.name", "metadata.namespace", "type", "status.phase")


def labels(selector: str) -> Matcher:
    """`a=b,c!=d,e,!f,g in (h,i)`. Raises ApiError 400."""
    tests = [_requirement(part) for part in re.split(r",(?![^(]*\))", selector) if part.strip()]
    return lambda body: all(test(body["metadata"].get("labels", {})) for test in tests)


def _requirement(text: str) -> Callable[[dict[str, str]], bool]:
    if match := _SET.fullmatch(text):
        key, operator, listed = match.groups()
        values = {value.strip() for value in listed.split(",")}
        return lambda found: (found.get(key) in values) == (operator == "in")
    if match := _EQUAL.fullmatch(text):
        key, operator, value = match.groups()
        return lambda found: (found.get(key) == value) == (operator != "!=")
    if match := _EXISTS.fullmatch(text):
        negated, key = match.groups()
        return lambda found: (key in found) != bool(negated)
    raise status.bad_request(f"unable to parse requirement: {text!r}")


def fields(selector: str) -> Matcher:
    """`metadata.name=a,type!=b`. Raises ApiError 400 for a field that cannot be selected by."""
    tests = []
    for part in filter(None, selector.split(",")):
        match = _EQUAL.fullmatch(part)
        if not match:
            raise status.bad_request(f"invalid selector: '{selector}'; can't understand '{part}'")
        path, operator, value = match.groups()
        if path not in _FIELDS:
            raise status.bad_request(f"field label not supported: {path}")
        tests.append((path, value, operator != "!="))
    return lambda body: all((_look(body, path) == value) == equal for path, value, equal in tests)


def _look(body: Json, path: str) -> str:
    found: Any = body
    for name in path.split("."):
        found = found.get(name, "") if isinstance(found, dict) else ""
    return str(found)
