"""What the parts of Azure Resource Manager's stand-in share: requests, paths, routes, rate limits, error bodies."""

import json
import math
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, Self

from aiohttp import web

from local.serving import Refusal

_PATH: Final = re.compile(
    r"(?P<provider>/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)/providers/(?P<namespace>[^/]+))"
    r"/(?P<rest>[^/]+(?:/[^/]+)*)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ResourcePath:
    """The path of a resource in a group, in the caller's spelling.

    types, names: of the resource and its parents; a list or an action has one name fewer than types. scope: what a role
    assignment must cover; for a list, the parent.
    """

    subscription: str
    group: str
    namespace: str
    types: tuple[str, ...]
    names: tuple[str, ...]
    scope: str

    @classmethod
    def parse(cls, path: str) -> Self | None:
        match = _PATH.fullmatch(path)
        if match is None:
            return None
        rest = match["rest"].split("/")
        types, names = tuple(rest[::2]), tuple(rest[1::2])
        scope = "/".join([match["provider"], *rest[: 2 * len(names)]])
        return cls(match["subscription"], match["group"], match["namespace"], types, names, scope)

    @property
    def kind(self) -> str:
        return "/".join([self.namespace, *self.types])

    @property
    def resource_id(self) -> str:
        """The id of the outermost resource. Azure always writes `resourcegroups` in lower case."""
        provider = f"/subscriptions/{self.subscription}/resourcegroups/{self.group}/providers/{self.namespace}"
        return f"{provider}/{self.types[0]}/{self.names[0]}"


@dataclass(frozen=True, slots=True)
class ArmRequest:
    """A request that has passed authentication and authorization.

    body: of a PUT. host: scheme and authority, for links. record_write: to be called once something has changed.
    """

    path: ResourcePath
    url_path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    host: str
    record_write: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Route:
    """kind, names: the types and the number of names that the path must have. permission: the action that a role must
    grant. links: for a body, further actions and the scopes at which a role must grant them.
    """

    method: str
    kind: str
    names: int
    version: str
    permission: str
    handler: Callable[[ArmRequest], Awaitable[web.Response]]
    links: Callable[[Mapping[str, Any]], Iterable[tuple[str, str]]] = lambda _: ()

    def matches(self, method: str, path: ResourcePath) -> bool:
        same_kind = self.kind.lower() == path.kind.lower() and self.names == len(path.names)
        return same_kind and self.method == method


class Provider(Protocol):
    """A resource provider: its routes, and the ids of its resources."""

    def routes(self) -> Iterable[Route]: ...

    def resource_ids(self) -> Iterable[str]: ...


@dataclass(slots=True)
class RateLimit:
    """A token bucket for each key: `burst` calls at once, and one more after each `refill`. Tests may change both."""

    burst: int
    refill: timedelta = timedelta(seconds=1)
    _full_at: dict[str, datetime] = field(default_factory=dict)

    def take(self, key: str, now: datetime) -> str | None:
        """Count one call. Return the Retry-After in seconds if it exceeds the limit, and do not count it then."""
        full_at = max(self._full_at.get(key.lower(), now), now) + self.refill
        wait = full_at - now - self.burst * self.refill
        if wait > timedelta():
            return str(math.ceil(wait.total_seconds()))
        self._full_at[key.lower()] = full_at
        return None


@dataclass(slots=True)
class WindowLimit(RateLimit):
    """At most `burst` calls for each key in any period of `burst` times `refill`. Stricter than a bucket, which allows
    twice as many in the first period: for limits of which Azure documents only calls and period.
    """

    _admitted: dict[str, deque[datetime]] = field(default_factory=dict)

    def take(self, key: str, now: datetime) -> str | None:
        admitted = self._admitted.setdefault(key.lower(), deque())
        began = now - self.burst * self.refill
        while admitted and admitted[0] <= began:
            admitted.popleft()
        if len(admitted) >= self.burst:
            wait = admitted[-self.burst] - began if admitted else self.refill
            return str(math.ceil(wait.total_seconds()))
        admitted.append(now)
        return None


def arm_error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Refusal:
    """The error body of Azure Resource Manager and of most providers."""
    return Refusal(status, {"error": {"code": code, "message": message}}, headers)


def not_played(what: str) -> Refusal:
    return arm_error(501, "NotImplemented", f"The local stand-in for Azure Resource Manager does not play {what}.")


def not_found(path: ResourcePath) -> Refusal:
    pairs = zip(path.types, path.names, strict=False)
    resource = "/".join([path.namespace, *(part for pair in pairs for part in pair)])
    return arm_error(
        404,
        "ResourceNotFound",
        f"The Resource '{resource}' under resource group '{path.group}' was not found. For more details please go to "
        "https://aka.ms/ARMResourceNotFoundFix",
    )


def parse_location(request: ArmRequest, existing: str | None) -> str:
    """The location in the body of a PUT, in Azure's spelling. It is required, and a resource cannot move."""
    given = request.body.get("location")
    if not isinstance(given, str) or not given:
        raise arm_error(400, "LocationRequired", "The location property is required for this definition.")
    location = given.lower().replace(" ", "")
    if existing not in {None, location}:
        raise arm_error(
            409,
            "InvalidResourceLocation",
            f"The resource '{request.path.names[0]}' already exists in location '{existing}' in resource group "
            f"'{request.path.group}'. A resource with the same name cannot be created in location '{location}'. Please "
            "select a new resource name.",
        )
    return location


def require_version(request: web.Request) -> str:
    """Checked first, even before the token."""
    version = request.query.get("api-version")
    if not version:
        missing = "The api-version query parameter (?api-version=) is required for all requests."
        raise arm_error(400, "MissingApiVersionParameter", missing)
    return version


def check_version(version: str, supported: str) -> None:
    if version != supported:
        invalid = f"The api-version '{version}' is invalid. The supported versions are '{supported}'."
        raise arm_error(400, "InvalidApiVersionParameter", invalid)


async def read_body(request: web.Request) -> Mapping[str, Any]:
    if request.method != "PUT":
        return {}
    try:
        body = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError) as e:
        body = str(e)
    if not isinstance(body, dict):
        invalid = f"The request content was invalid and could not be deserialized: '{body}'."
        raise arm_error(400, "InvalidRequestContent", invalid)
    return body
