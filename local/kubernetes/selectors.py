"""Label and field selectors of lists, and the words in which the real parsers refuse them."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from local.kubernetes import naming, status
from local.kubernetes.kinds import Kind

Json = dict[str, Any]
Matcher = Callable[[Json], bool]
Test = Callable[[dict[str, str]], bool]

_TOKEN = re.compile(r"\s*(!=|==|=|!|,|\(|\)|<|>|[^\s!=,()<>]+)")
_END = ""
_MARKS = ("!=", "==", "=", "!", ",", "(", ")", "<", ">", _END)
_OPERATORS = ("in", "notin", "=", "==", "!=", ">", "<")
_FIELD = re.compile(r"([^=!]+)(!=|==|=)(.*)")
_FIELDS = {"Secret": ("type",), "Namespace": ("status.phase",), "Pod": ("status.phase", "spec.nodeName")}


def labels(selector: str) -> Matcher:
    """`a=b,c!=d,e,!f,g in (h,i),j>1`. Raises ApiError 400."""
    try:
        tests = list(_Parser(selector).requirements())
    except ValueError as error:
        raise status.bad_request(str(error)) from None
    return lambda body: all(test(body["metadata"].get("labels", {})) for test in tests)


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: list[str] = [*_TOKEN.findall(text), _END]

    def requirements(self) -> Iterator[Test]:
        """Raises ValueError."""
        while self._tokens[0] != _END:
            if self._tokens[0] in _MARKS and self._tokens[0] != "!":
                raise self._unexpected("!, identifier, or 'end of string'")
            try:
                requirement = self._requirement()
            except ValueError as error:
                raise ValueError(f"unable to parse requirement: {error}") from None
            yield requirement
            if self._tokens[0] == _END:
                return
            self._take(",", "',' or 'end of string'")
            if self._tokens[0] == _END:
                raise self._unexpected("identifier after ','")

    def _requirement(self) -> Test:
        if self._tokens[0] == "!":
            self._tokens.pop(0)
            absent = self._identifier()
            return lambda found: absent not in found
        key = self._identifier()
        for said in naming.label_key(key):
            raise ValueError(f"<nil>: {status.wrong('', status.quoted(key), said).message}")
        if self._tokens[0] in (_END, ","):
            return lambda found: key in found
        operator = self._tokens[0]
        if operator not in _OPERATORS:
            raise self._unexpected("in, notin, =, ==, !=, gt, lt")
        self._tokens.pop(0)
        if operator in ("in", "notin"):
            values = self._values()
            return lambda found: (found.get(key) in values) == (operator == "in")
        value = "" if self._tokens[0] in (_END, ",") else self._identifier()
        if operator == ">":
            return lambda found: key in found and int(found[key]) > int(value)
        if operator == "<":
            return lambda found: key in found and int(found[key]) < int(value)
        return lambda found: (found.get(key) == value) == (operator != "!=")

    def _values(self) -> list[str]:
        if self._tokens[0] != "(":
            raise ValueError(f"found '{self._tokens[0]}' expected: '('")
        self._tokens.pop(0)
        values = []
        while self._tokens[0] != ")":
            values.append(self._identifier("',', ')' or identifier"))
            if self._tokens[0] != ")":
                self._take(",", "',' or ')'")
        self._tokens.pop(0)
        return values

    def _identifier(self, expected: str = "identifier") -> str:
        if self._tokens[0] in _MARKS:
            raise self._unexpected(expected)
        return self._tokens.pop(0)

    def _take(self, wanted: str, expected: str) -> None:
        if self._tokens[0] != wanted:
            raise self._unexpected(expected)
        self._tokens.pop(0)

    def _unexpected(self, expected: str) -> ValueError:
        return ValueError(f"found '{self._tokens[0]}', expected: {expected}")


def fields(selector: str, kind: Kind) -> Matcher:
    """`metadata.name=a,type!=b`. Raises ApiError 400 for a field that the kind cannot be selected by."""
    known = ("metadata.name", *(("metadata.namespace",) if kind.namespaced else ()), *_FIELDS.get(kind.name, ()))
    tests = []
    for part in filter(None, selector.split(",")):
        match = _FIELD.fullmatch(part)
        if not match:
            raise status.bad_request(f"invalid selector: '{selector}'; can't understand '{part}'")
        path, operator, value = match.groups()
        if path not in known:
            raise status.bad_request(f"field label not supported: {path}")
        tests.append((path, value, operator != "!="))
    return lambda body: all((_look(body, path) == value) == equal for path, value, equal in tests)


def _look(body: Json, path: str) -> str:
    found: Any = body
    for name in path.split("."):
        found = found.get(name, "") if isinstance(found, dict) else ""
    return str(found)
