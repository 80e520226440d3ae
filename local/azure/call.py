"""The grammar of Azure Resource Manager: where a path points, what a call needs, and how it is refused."""

import json
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, Self

from aiohttp import web

_PATH: Final = re.compile(
    r"(?P<above>/subscriptions/(?P<subscription>[^/]+)(?:/resourceGroups/(?P<group>[^/]+))?/providers/(?P<namespace>[^/]+))"
    r"/(?P<rest>[^/]+(?:/[^/]+)*)",
    re.IGNORECASE,
)
_PROVIDER: Final = re.compile(r"/subscriptions/([^/]+)/providers/([^/]+)", re.IGNORECASE)
PROVIDERS: Final = "Microsoft.Resources/subscriptions/providers"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path points, spelt as it was asked for.

    types, names: of the resource and those above it; a name fewer than types for a list or an action. scope: what a
    role has to cover; for a list, where it is held.
    """

    subscription: str
    group: str | None
    namespace: str
    types: tuple[str, ...]
    names: tuple[str, ...]
    scope: str

    @classmethod
    def parse(cls, path: str) -> Self | None:
        provider = _PROVIDER.fullmatch(path)
        if provider:
            # As the roles call it: the path names no provider of providers.
            namespace, *kind = PROVIDERS.split("/")
            subscription = provider[1]
            return cls(subscription, None, namespace, tuple(kind), provider.groups(), f"/subscriptions/{subscription}")
        at = _PATH.fullmatch(path)
        if at is None:
            return None
        rest = at["rest"].split("/")
        types, names = tuple(rest[::2]), tuple(rest[1::2])
        scope = "/".join([at["above"], *rest[: 2 * len(names)]])
        return cls(at["subscription"], at["group"], at["namespace"], types, names, scope)

    @property
    def kind(self) -> str:
        return "/".join([self.namespace, *self.types])

    @property
    def resource_id(self) -> str:
        """Of the outermost resource, the way Azure writes it: one segment in lower case, whatever was asked for."""
        return f"{self.collection}/{self.types[0]}/{self.names[0]}"

    @property
    def collection(self) -> str:
        return f"/subscriptions/{self.subscription}/resourcegroups/{self.group}/providers/{self.namespace}"


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that is allowed. body: of a PUT. host: scheme and authority, for links. changed: to be called once the
    call has changed something.
    """

    place: Place
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    host: str
    changed: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Call:
    """kind, names: what a path has to have. permission: the action that a role must grant. in_group: whether the path
    names a resource group.
    """

    method: str
    kind: str
    names: int
    version: str
    permission: str
    answer: Callable[[Asked], Awaitable[web.Response]]
    in_group: bool = True

    def fits(self, method: str, place: Place) -> bool:
        same_kind = self.kind.lower() == place.kind.lower() and self.names == len(place.names)
        return same_kind and self.method == method and self.in_group == (place.group is not None)


class Provider(Protocol):
    """A resource provider: the calls that it answers, and what it holds."""

    def calls(self) -> Iterable[Call]: ...

    def resource_ids(self) -> Iterable[str]: ...


@dataclass(slots=True)
class Limit:
    """A token bucket for each key: so many calls at once, and another one every so often. A test may change both."""

    burst: int
    refill: timedelta = timedelta(seconds=1)
    _full_at: dict[str, datetime] = field(default_factory=dict)

    def take(self, key: str, now: datetime) -> timedelta:
        """How long to wait for the next call; zero where this one was still to be had, which takes it."""
        full_at = max(self._full_at.get(key, now), now) + self.refill
        wait = max(full_at - now - self.burst * self.refill, timedelta())
        if not wait:
            self._full_at[key] = full_at
        return wait


def refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.HTTPException:
    """In the words of Azure Resource Manager and of most providers."""
    return refused(status, {"error": {"code": code, "message": message}}, headers)


def refused(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> web.HTTPException:
    class Refusal(web.HTTPException):
        status_code = status

    return Refusal(text=json.dumps(body), content_type="application/json", headers=headers)


def not_found(place: Place) -> web.HTTPException:
    pairs = zip(place.types, place.names, strict=False)
    named = "/".join([place.namespace, *(part for pair in pairs for part in pair)])
    return refusal(
        404,
        "ResourceNotFound",
        f"The Resource '{named}' under resource group '{place.group}' was not found. For more details please go to "
        "https://aka.ms/ARMResourceNotFoundFix",
    )


def located(body: Mapping[str, Any], place: Place, existing: str | None) -> str:
    """The location that a PUT names, in Azure's spelling: it has to, and a resource never moves."""
    given = body.get("location")
    if not isinstance(given, str) or not given:
        raise refusal(400, "LocationRequired", "The location property is required for this definition.")
    location = given.lower().replace(" ", "")
    if existing not in {None, location}:
        raise refusal(
            409,
            "InvalidResourceLocation",
            f"The resource '{place.names[0]}' already exists in location '{existing}' in resource group "
            f"'{place.group}'. A resource with the same name cannot be created in location '{location}'. Please select "
            "a new resource name.",
        )
    return location


def seconds(wait: timedelta) -> str:
    """As a Retry-After has it."""
    return str(math.ceil(wait.total_seconds()))
