"""From a parsed body to an object of a kind, as Go's structs would hold it, and what the server says where they cannot.

The two ways in fail differently on the real server. POST, PUT and the plain patches decode into structs: 400 or 422.
Apply checks the schema and converts afterwards: 500 without a reason, for ever.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from local.kubernetes import gojson, quantities, status, zeros
from local.kubernetes.kinds import KINDS, Kind
from local.kubernetes.schema import ANYTHING, Type

Json = dict[str, Any]

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_BASE64 = re.compile("[A-Za-z0-9+/]*={0,2}")
_ACCEPTED: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "quantity": (str, int, float),
    "int-or-string": (int, str),
}
_GO_ALIASES = {"Secret.type": "v1.SecretType"}
_ZERO: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False}


@dataclass(slots=True)
class Findings:
    """Fields of a body that the kind does not have."""

    unknown: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        return [f'unknown field "{path}"' for path in self.unknown]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a body: `path` as strict decoding names it; `owner` and `fields` as Go's decoder does."""

    path: str
    owner: str
    fields: str

    def below(self, name: str, kind: Type) -> "_Place":
        path = f"{self.path}.{name}" if self.path else name
        if kind.shape == "map":  # Go's decoder leaves out keys of maps
            return _Place(path, self.owner, self.fields)
        return _Place(path, kind.name, f"{self.fields}.{name}" if self.fields else name)

    def item(self, at: int) -> "_Place":
        return _Place(f"{self.path}[{at}]", self.owner, self.fields)


def summary(body: Json) -> str:
    meta = body.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    return f"{meta.get('namespace') or ''}/{meta.get('name') or ''}"


def applied(kind: Kind, merged: Json, body: Json) -> Json:
    """The object that an applied body was merged into. Raises ApiError 500 for what the structs cannot hold."""
    try:
        return shaped(kind, merged, Findings())
    except ValueError as error:
        why = str(error)
        if why.startswith("illegal base64"):
            why = f"error decoding from json: {why}"
        elif why.startswith("json: cannot unmarshal number "):
            why = f"cannot convert float64 to {why.rpartition(' ')[2]}"
        said = f"failed to convert new object ({summary(body)}; {kind.gvk}) to proper version"
        raise status.broken(f"{said}: unable to convert unstructured object to {kind.gvk}: {why}") from None


def written(kind: Kind, body: Json, findings: Findings) -> Json:
    """The body of a POST or PUT. Raises ApiError 400."""
    try:
        return shaped(kind, body, findings)
    except ValueError as error:
        raise unhandled(kind, str(error)) from None


def other_kind(kind: Kind, body: Json) -> str:
    """What the decoder says of a body that claims to be of another kind; empty for one that does not."""
    version, name = body.get("apiVersion", kind.api_version), body.get("kind", kind.name)
    if (version, name) == (kind.api_version, kind.name):
        return ""
    other = next((one for one in KINDS if (one.api_version, one.name) == (version, name)), None)
    if other:
        return f"converting (v1.{other.name}) to ({kind.go_type}): unknown conversion"
    return f'no kind "{name}" is registered for version "{version}" in scheme "pkg/runtime/scheme.go:111"'


def unhandled(kind: Kind, why: str) -> status.ApiError:
    return status.bad_request(f'{kind.name} in version "v1" cannot be handled as a {kind.name}: {why}')


def shaped(kind: Kind, body: Json, findings: Findings) -> Json:
    """Without what an encoder leaves out (null, empty optional strings, lists and maps) and without unknown fields.

    Raises ValueError, in Go's words, for a value of the wrong type, bad base64 and bad times.
    """
    made: Json = _shaped(kind.type, body, _Place("", kind.name, ""), findings)
    made.setdefault("metadata", {})
    return made


def _shaped(kind: Type, value: Any, place: _Place, findings: Findings) -> Any:
    if kind.shape == "scalar":
        _check_scalar(kind, value, place)
        return quantities.canonical(value) if kind.scalar == "quantity" else value
    if not isinstance(value, list if kind.shape == "list" else dict):
        raise _unfit(value, kind, place)
    if isinstance(value, list):
        element = kind.element or ANYTHING
        return [_shaped(element, item, place.item(at), findings) for at, item in enumerate(value) if item is not None]
    made: Json = zeros.of(kind) if kind.shape == "struct" else {}
    for name, item in value.items():
        child, here = kind.child(name), place.below(name, kind)
        if child is None:
            findings.unknown.append(here.path)
        elif item is not None:
            below = _shaped(child, item, here, findings)
            kept = kind.shape == "map" or name in (
                *kind.required,
                *zeros.always_written(kind),
                "managedFields",
            )  # none: forget them
            if kept or not _omitted(child, below):
                made[name] = below
        elif kind.shape == "map" and child.scalar in _ZERO:
            made[name] = _ZERO[child.scalar]
    return made


def _omitted(kind: Type, value: Any) -> bool:
    return value == "" or (value in ([], {}) and kind.shape in ("list", "map"))


def _check_scalar(kind: Type, value: Any, place: _Place) -> None:
    types = _ACCEPTED.get(kind.scalar)
    if types is None:
        return
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise _unfit(value, kind, place)
    if kind.format == "byte":
        check_base64(str(value))
    if kind.format == "date-time" and not _TIME.fullmatch(str(value)):
        raise ValueError(f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse "{value}" as "2006"')


def _unfit(value: object, kind: Type, place: _Place) -> ValueError:
    found, where = gojson.kind_of(value), f"{place.owner}.{place.fields}"
    if isinstance(value, float) and kind.scalar == "integer":
        found = f"number {value}"
    wanted = _GO_ALIASES.get(where, kind.go_type)
    return ValueError(f"json: cannot unmarshal {found} into Go struct field {where} of type {wanted}")


def check_base64(text: str) -> None:
    """Go's strict standard decoding. Raises ValueError with Go's words."""
    if len(text) % 4 == 0 and _BASE64.fullmatch(text):
        return
    position = _first_illegal(text.encode())
    if position is not None:
        raise ValueError(f"illegal base64 data at input byte {position}")


def _first_illegal(text: bytes) -> int | None:
    """Where Go's decoder stops: it reads groups of four and skips line ends. None: it does not stop."""
    at, end = 0, len(text)
    while True:
        group = 0
        while group < 4:  # noqa: PLR2004 - four characters are three bytes
            if at >= end:
                return at - group if group else None
            byte, at = text[at : at + 1], at + 1
            if byte in b"\r\n":
                continue
            if byte == b"=":
                return _after_padding(text, at, group)
            if not (byte.isalnum() or byte in b"+/"):
                return at - 1
            group += 1


def _after_padding(text: bytes, at: int, group: int) -> int | None:
    """`at` is behind the first "=" of the last group, which has `group` characters before it."""
    if group < 2:  # noqa: PLR2004 - two characters are the least that make a byte
        return at - 1
    at = _skip_line_ends(text, at)
    if group == 2:  # noqa: PLR2004
        if at >= len(text):
            return len(text)
        if text[at : at + 1] != b"=":
            return at - 1
        at += 1
    at = _skip_line_ends(text, at)
    return at if at < len(text) else None


def _skip_line_ends(text: bytes, at: int) -> int:
    while text[at : at + 1] in (b"\r", b"\n"):
        at += 1
    return at
