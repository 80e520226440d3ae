"""Bodies as parsed text: JSON and YAML, what is wrong with them in Go's words, and keys that stand in them twice."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from local.kubernetes import gojson, protobuf, status
from local.kubernetes.kinds import Kind

Json = dict[str, Any]

_TYPE_META = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
_SHOWN = 30


@dataclass(frozen=True, slots=True)
class Body:
    """An object and its doubled keys, each described as the strict decoder does."""

    value: Json
    doubled: tuple[str, ...] = ()


class BodyError(ValueError):
    """No object at all; the message is Go's."""


def of_json(text: bytes, target: str) -> Body:
    """Raises BodyError. `target` is the Go type that a refusal names."""
    flags: list[bool] = []

    def made(pairs: list[tuple[str, Any]]) -> Json:
        found = dict(pairs)
        flags.append(len(found) != len(pairs))
        return found

    try:
        value = gojson.loads(text, made)
    except gojson.GoJsonError as error:
        raise BodyError(str(error)) from None
    if value is None:
        return Body({})
    if not isinstance(value, dict):
        raise BodyError(f"json: cannot unmarshal {gojson.kind_of(value)} into Go value of type {target}")
    return Body(value, tuple(_doubled(text)) if any(flags) else ())


def _doubled(text: bytes) -> Iterator[str]:
    yield from (f'duplicate field "{path}"' for path in _twice(json.loads(text, object_pairs_hook=tuple), ""))


def _twice(value: object, path: str) -> Iterator[str]:
    """Objects are tuples of pairs here, and lists are lists."""
    if isinstance(value, list):
        for at, item in enumerate(value):
            yield from _twice(item, f"{path}[{at}]")
    elif isinstance(value, tuple):
        seen = set()
        for name, item in value:
            here = f"{path}.{name}" if path else name
            if name in seen:
                yield here
            seen.add(name)
            yield from _twice(item, here)


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: dates stay text, keys become text, and doubled keys are noted with their line."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.doubled: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's
        found: dict[str, Any] = {}
        self.flatten_mapping(node)
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            name = json.dumps(key) if isinstance(key, bool) or key is None else str(key)
            if name in found:
                self.doubled.append(f'line {key_node.start_mark.line + 1}: key "{name}" already set in map')
            found[name] = self.construct_object(value_node, deep=deep)
        return found


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def of_yaml(text: bytes, target: str = "map[string]interface {}") -> Body:
    """Raises BodyError with "yaml: ..." for broken text, and with "json: ..." for what is no object."""
    loader = _Loader(text)
    try:
        value = loader.get_single_data()
    except yaml.YAMLError as error:
        raise BodyError(f"yaml: {_placed(error)}") from None
    finally:
        loader.dispose()
    if value is None:
        return Body({})
    if not isinstance(value, dict):
        raise BodyError(f"json: cannot unmarshal {gojson.kind_of(value)} into Go value of type {target}")
    return Body(value, tuple(loader.doubled))


def _placed(error: yaml.YAMLError) -> str:
    """go-yaml counts lines from zero for its parser and from one for its scanner, and never mentions line zero."""
    marks = [getattr(error, name, None) for name in ("context_mark", "problem_mark")]
    line = next((mark.line for mark in marks if mark and mark.line), 0)
    if line and isinstance(error, yaml.scanner.ScannerError):
        line += 1
    problem = getattr(error, "problem", None) or str(error)
    return f"line {line}: {problem}" if line else str(problem)


def applied(text: bytes, *, strict: bool) -> Body:
    """The body of an apply. Raises ApiError 400."""
    looks_like_json = text.lstrip().startswith(b"{")
    try:
        if looks_like_json:
            body = of_json(text, "map[string]interface {}")
            # Doubled keys are found by the YAML reader there, which knows their lines.
            body = of_yaml(text) if body.doubled else body
        else:
            body = of_yaml(text)
    except BodyError:
        raise status.bad_request(_unreadable(text, looks_like_json=looks_like_json)) from None
    if body.doubled and strict:
        lines = "".join(f"\n  {one}" for one in body.doubled)
        said = f"error converting YAML to JSON: yaml: unmarshal errors:{lines}"
        raise status.bad_request(f"error strict decoding patch: {said}")
    return body


def _unreadable(text: bytes, *, looks_like_json: bool) -> str:
    """JSON is YAML to the server here, and is complained of as such; what is no JSON fails one step earlier."""
    try:
        of_yaml(text)
    except BodyError as error:
        if str(error).startswith("json:"):
            return f"error decoding patch: error unmarshaling JSON: while decoding JSON: {error}"
        step = "error decoding patch: error converting YAML to JSON" if looks_like_json else "error encoding patch"
        return f"{step}: {error}"
    return "error decoding patch: invalid JSON"


def written(text: bytes, content_type: str, kind: Kind) -> Body:
    """The body of a POST or PUT. Raises ApiError 400."""
    if content_type == "application/vnd.kubernetes.protobuf":
        return Body(protobuf.written(text, kind))
    try:
        if content_type == "application/yaml":
            return of_yaml(text, _TYPE_META)
        return of_json(text, _TYPE_META)
    except BodyError as error:
        said = str(error)
        if content_type != "application/yaml" or said.startswith("json:"):
            said = f"couldn't get version/kind; json parse error: {said}"
        shown = _summary(text)
        raise status.bad_request(
            f"the object provided is unrecognized (must be of type {kind.name}): {said} ({shown})"
        ) from None


def _summary(text: bytes) -> str:
    if not text:
        return "<empty>"
    shown = text[:_SHOWN].decode(errors="replace") if text.startswith(b"{") else text[:_SHOWN].hex()
    return f"{shown} ..." if len(text) > _SHOWN else shown
