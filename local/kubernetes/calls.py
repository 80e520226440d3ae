"""From an HTTP request to the call that it makes. Every request outside of what is played ends here, with 501."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from aiohttp import web

from local.kubernetes.authentication import User
from local.kubernetes.kinds import NAMESPACES, Kind, find
from local.kubernetes.refusals import Refusal, not_played, refuse

Json = dict[str, Any]
Verb = Literal["get", "list", "create", "apply", "json patch", "merge patch", "delete"]

BODY_LIMIT: Final = 3 * 1024 * 1024
_PATH: Final = re.compile(
    r"/(?:api|apis/(?P<group>[a-z0-9.]+))/v1(?:/namespaces/(?P<namespace>[^/]+))?/(?P<resource>[a-z]+)(?:/(?P<name>[^/]+))?"
)
_PATCHES: Final[Mapping[str, Verb]] = {
    "application/apply-patch+yaml": "apply",
    "application/json-patch+json": "json patch",
    "application/merge-patch+json": "merge patch",
}
_WHOLE: Final = {"", "*/*", "application/json"}
_METADATA_ONLY: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_QUERY: Final[Mapping[str, frozenset[str]]] = {
    "list": frozenset({"labelSelector", "fieldSelector", "limit", "continue"}),
    "create": frozenset({"fieldManager"}),
    "apply": frozenset({"fieldManager", "force=true", "force=false", "dryRun=All", "fieldValidation=Strict"}),
    "json patch": frozenset({"fieldManager", "dryRun=All"}),
    "merge patch": frozenset({"fieldManager", "dryRun=All"}),
}
_MANAGER: Final = re.compile(r"[ -~]{1,128}")


@dataclass(frozen=True, slots=True)
class Attributes:
    """What the authorizer is asked about. verb: get, list, create, patch, delete, or any that a review names."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    user: User
    kind: Kind
    verb: Verb
    namespace: str
    name: str
    manager: str
    forced: bool
    dry_run: bool
    metadata_only: bool
    query: Mapping[str, str]

    @property
    def attributes(self) -> Attributes:
        verb = "patch" if self.verb in _PATCHES.values() else self.verb
        # A namespace lies in itself, for the authorizer.
        namespace = self.name if self.kind is NAMESPACES else self.namespace
        return Attributes(verb, self.kind.group, self.kind.plural, namespace, self.name)

    @property
    def values(self) -> dict[str, str]:
        """For placeholders of recordings."""
        return {
            "resource": self.kind.plural,
            "group": self.kind.group,
            "qualified": self.kind.qualified,
            "kind": self.kind.name,
            "qualified_kind": self.kind.qualified_kind,
            "namespace": self.namespace,
            "name": self.name,
            "user": self.user.name,
            "verb": self.attributes.verb,
        }

    def refuse(self, case: str, **more: str) -> Refusal:
        return refuse(case, **{**self.values, **more})

    def with_name(self, name: str) -> "Call":
        """The same call, once the body of a POST has named the object."""
        return replace(self, name=name)


def parse(request: web.Request, user: User) -> Call:
    """Raises Refusal 501."""
    path = _PATH.fullmatch(request.path)
    kind = find(path["group"] or "", path["resource"]) if path else None
    if path is None or kind is None:
        raise not_played(f"{request.path}: no such kind, version or subresource is played")
    namespace, name = path["namespace"] or "", path["name"] or ""
    if bool(namespace) and not kind.namespaced:
        raise not_played(f"{request.path}: {kind.plural} are in no namespace")
    verb = _verb(request, kind, namespace, name)
    accept = request.headers.get("Accept", "")
    metadata = _METADATA_LIST if verb == "list" else _METADATA_ONLY
    if accept not in _WHOLE | {metadata}:
        raise not_played(f"the representation {accept}")
    query = _query(request, verb)
    manager = query.get("fieldManager", "")
    if not manager and verb != "apply":
        # The server takes the first part of the User-Agent.
        manager = request.headers.get("User-Agent", "").partition("/")[0]
    if "fieldManager" in _QUERY.get(verb, ()) and not _MANAGER.fullmatch(manager):
        raise not_played(f"the field manager {manager!r}")
    return Call(
        user,
        kind,
        verb,
        namespace,
        name,
        manager,
        forced=query.get("force") == "true",
        dry_run="dryRun" in query,
        metadata_only=accept == metadata,
        query=query,
    )


def _verb(request: web.Request, kind: Kind, namespace: str, name: str) -> Verb:
    content = request.headers.get("Content-Type", "").partition(";")[0]
    if kind.read_only and request.method != "GET":
        raise not_played(f"{request.method} of {kind.plural}")
    placed = bool(namespace) or not kind.namespaced
    match request.method:
        case "GET" if not name:
            return "list"
        case "GET" if placed:
            return "get"
        case "POST" if placed and not name and content == "application/json":
            return "create"
        case "PATCH" if placed and name and content in _PATCHES:
            return _PATCHES[content]
        case "DELETE" if placed and name and content in {"", "application/json"}:
            return "delete"
    raise not_played(f"{request.method} of {request.path} with content of type {content!r}")


def _query(request: web.Request, verb: Verb) -> dict[str, str]:
    allowed = _QUERY.get(verb, frozenset())
    for name, value in request.query.items():
        if not {name, f"{name}={value}"} & allowed or len(request.query.getall(name)) > 1:
            raise not_played(f"the parameter {name}={value} of {verb}")
    return dict(request.query)


async def read(request: web.Request) -> Any:
    """The body; {} for none. Raises Refusal 501 for one that the real server might understand otherwise."""
    try:
        text = await request.read()
        return parse_json(text) if text else {}
    except (ValueError, RecursionError, web.HTTPRequestEntityTooLarge):
        raise not_played("a body that is no plain JSON of up to 3 MiB") from None


def parse_json(text: bytes) -> Any:
    """Stricter than Go and than Python: no field twice, UTF-8 alone, no NaN and no fractions. Raises ValueError."""
    return json.loads(
        text.decode(), object_pairs_hook=_unique, parse_constant=_refuse_number, parse_float=_refuse_number
    )


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a field is there twice")
    return made


def _refuse_number(text: str) -> None:
    raise ValueError(f"the number {text}")
