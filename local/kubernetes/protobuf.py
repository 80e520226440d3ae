"""Bodies in protobuf, which kubectl's own commands send (`kubectl create secret ...`), for what a person creates so.

Answers are never protobuf: every client that sends it takes JSON as well. The field numbers are those of the
`generated.proto` files of k8s.io/api and k8s.io/apimachinery.
"""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from local.kubernetes import status
from local.kubernetes.kinds import Kind
from local.kubernetes.schema import ANYTHING, Type

Json = dict[str, Any]

MAGIC = b"k8s\x00"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIELDS: dict[str, dict[int, str]] = {
    "Namespace": {1: "metadata", 2: "spec"},
    "NamespaceSpec": {1: "finalizers"},
    "Secret": {1: "metadata", 2: "data", 3: "type", 4: "stringData", 5: "immutable"},
    "ConfigMap": {1: "metadata", 2: "data", 3: "binaryData", 4: "immutable"},
    "ServiceAccount": {1: "metadata", 2: "secrets", 3: "imagePullSecrets", 4: "automountServiceAccountToken"},
    "LocalObjectReference": {1: "name"},
    "ObjectReference": {1: "kind", 2: "namespace", 3: "name", 4: "uid", 5: "apiVersion", 6: "resourceVersion"},
    "Role": {1: "metadata", 2: "rules"},
    "ClusterRole": {1: "metadata", 2: "rules"},
    "RoleBinding": {1: "metadata", 2: "subjects", 3: "roleRef"},
    "ClusterRoleBinding": {1: "metadata", 2: "subjects", 3: "roleRef"},
    "PolicyRule": {1: "verbs", 2: "apiGroups", 3: "resources", 4: "resourceNames", 5: "nonResourceURLs"},
    "RoleRef": {1: "apiGroup", 2: "kind", 3: "name"},
    "Subject": {1: "kind", 2: "apiGroup", 3: "name", 4: "namespace"},
    "SelfSubjectAccessReview": {1: "metadata", 2: "spec"},
    "SelfSubjectAccessReviewSpec": {1: "resourceAttributes", 2: "nonResourceAttributes"},
    "ResourceAttributes": {
        1: "namespace",
        2: "verb",
        3: "group",
        4: "version",
        5: "resource",
        6: "subresource",
        7: "name",
    },
    "NonResourceAttributes": {1: "path", 2: "verb"},
    "SelfSubjectReview": {1: "metadata"},
    "ObjectMeta": {
        1: "name",
        2: "generateName",
        3: "namespace",
        5: "uid",
        6: "resourceVersion",
        7: "generation",
        8: "creationTimestamp",
        11: "labels",
        12: "annotations",
        14: "finalizers",
    },
}
# What clients always send, empty as it is, and the server decides alone.
_IGNORED = {"Namespace": (3,), "SelfSubjectAccessReview": (3,), "SelfSubjectReview": (2,), "ObjectMeta": (4,)}


def written(text: bytes, kind: Kind) -> Json:
    """The body of a POST or PUT. Raises ApiError 400, and 501 for kinds and fields that are not in the table."""
    if not text.startswith(MAGIC):
        raise status.bad_request(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
        )
    try:
        envelope = dict(_read(text[len(MAGIC) :]))
        about = dict(_read(_bytes(envelope.get(1, b""))))
        body = _message(kind.type, _bytes(envelope.get(2, b"")))
    except (IndexError, UnicodeDecodeError, TypeError) as error:
        raise status.bad_request(f"the protobuf body is broken: {error}") from None
    named = {"apiVersion": _bytes(about.get(1, b"")).decode(), "kind": _bytes(about.get(2, b"")).decode()}
    return body | {name: text for name, text in named.items() if text}


def _read(text: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers with their raw values. Raises IndexError where the text ends too early."""
    at = 0
    while at < len(text):
        tag, at = _varint(text, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(text, at)
            yield number, value
            continue
        size, at = _varint(text, at) if wire == _BYTES else ({_FIXED64: 8, _FIXED32: 4}[wire], at)
        if at + size > len(text):
            raise IndexError("a field is longer than its message")
        yield number, text[at : at + size]
        at += size


def _varint(text: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = text[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise TypeError("a number where a message is expected")
    return value


def _message(kind: Type, text: bytes) -> Json:
    fields = _FIELDS.get(kind.name)
    if fields is None:
        raise status.out_of_scope(f"{kind.name} in protobuf; send JSON")
    made: Json = {}
    for number, raw in _read(text):
        if number in _IGNORED.get(kind.name, ()):
            continue
        name = fields.get(number)
        if name is None:
            raise status.out_of_scope(f"field {number} of {kind.name} in protobuf; send JSON")
        if (name, raw) != ("generation", 0):  # a number that is no pointer is sent even when it is not set
            _put(made, name, kind.fields.get(name, ANYTHING), raw)
    return made


def _put(made: Json, name: str, kind: Type, raw: int | bytes) -> None:
    if kind.shape == "map":
        entry = dict(_read(_bytes(raw)))
        key = _bytes(entry.get(1, b"")).decode()
        made.setdefault(name, {})[key] = _value(kind.element or ANYTHING, entry.get(2, b""))
    elif kind.shape == "list":
        made.setdefault(name, []).append(_value(kind.element or ANYTHING, raw))
    else:
        made[name] = _value(kind, raw)


def _value(kind: Type, raw: int | bytes) -> Any:
    if kind.shape == "struct":
        return _message(kind, _bytes(raw))
    if kind.format == "date-time":
        seconds = dict(_read(_bytes(raw))).get(1)
        return None if not isinstance(seconds, int) else datetime.fromtimestamp(seconds, UTC).isoformat()
    if kind.scalar == "boolean":
        return bool(raw)
    if isinstance(raw, int):
        return raw
    return base64.b64encode(raw).decode() if kind.format == "byte" else raw.decode()
