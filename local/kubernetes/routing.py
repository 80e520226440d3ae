"""From a URL to what is asked: the request's attributes, as the authorizer and the handlers see them."""

from collections.abc import Mapping
from dataclasses import dataclass

from local.kubernetes.kinds import Kind, find

_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_NAMESPACE_PARTS = ("status", "finalize")


@dataclass(frozen=True, slots=True)
class Attributes:
    """`resource` is empty for a request that is about no resource (discovery, /version)."""

    verb: str
    path: str
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""

    @property
    def kind(self) -> Kind | None:
        return find(self.group, self.resource) if self.version == "v1" else None


def parse(method: str, path: str, query: Mapping[str, str]) -> Attributes:
    parts = [part for part in path.strip("/").split("/") if part]
    match parts:
        case ["api", version, _, *_]:
            group, rest = "", parts[2:]
        case ["apis", group, version, _, *_]:
            rest = parts[3:]
        case _:
            return Attributes(method.lower(), path)
    namespace = ""
    match rest:
        case ["namespaces", namespace, resource, *_] if resource not in _NAMESPACE_PARTS:
            rest = rest[2:]
        case ["namespaces", namespace, *_]:
            pass
    resource, name, subresource = (*rest, "", "")[:3]
    verb = _VERBS.get(method, "")
    if not name and verb == "get":
        verb = "watch" if query.get("watch", "false") not in ("false", "0") else "list"
    elif not name and verb == "delete":
        verb = "deletecollection"
    return Attributes(verb, path, group, version, namespace, resource, subresource, name)
