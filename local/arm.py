"""Azure Resource Manager, as far as reading clusters and their user credentials goes.

It asks what the real one asks, in its order: a version, a token of the tenant for management.azure.com, a role
assignment at the scope, the resource, a place in AKS's token buckets; and it refuses in Azure's words. A further call
is a row in `_calls`.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

import jwt
from aiohttp import web
from aiohttp.typedefs import Middleware

from local.entra import ARM, Entra
from local.managed_cluster import KIND, ManagedCluster, encoded
from local.serving import Refusal

__all__ = ["CLUSTER_USER", "READER", "Arm", "Limit", "ManagedCluster"]

CLUSTER_USER: Final = frozenset({f"{KIND}/read", f"{KIND}/listClusterUserCredential/action"})
"""The actions of Azure Kubernetes Service Cluster User Role."""
READER: Final = frozenset({"*/read"})
"""The actions of Reader."""

_VERSIONS: Final = frozenset({"2026-08-01"})
_AUDIENCES: Final = tuple(
    f"{host}{slash}" for host in ("https://management.core.windows.net", ARM) for slash in ("/", "")
)
_PATH: Final = re.compile(
    r"(?P<resource>/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)"
    r"/providers/(?P<kind>[^/]+/[^/]+)/(?P<name>[^/]+))(?P<action>/[^/]+)?",
    re.IGNORECASE,
)


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


@dataclass(frozen=True, slots=True)
class _Call:
    """permission: the action that a role must grant. name: what AKS calls it when there are too many of them."""

    permission: str
    name: str
    limit: Limit
    bucket: Callable[[ManagedCluster], str]
    answer: Callable[[ManagedCluster, Mapping[str, str]], Mapping[str, Any]]


class Arm:
    """Clusters by resource id, compared without regard to case, and who may do what to them."""

    def __init__(self, entra: Entra, clock: Callable[[], datetime], *, middlewares: Sequence[Middleware] = ()) -> None:
        self._entra = entra
        self._clock = clock
        self._clusters: dict[str, ManagedCluster] = {}
        self._assignments: set[tuple[str, str, frozenset[str]]] = set()
        # Reads count by cluster, the rest by subscription and region: learn.microsoft.com/azure/aks/quotas-skus-regions
        self.reads, self.others = Limit(60), Limit(60)
        self._calls = {
            ("GET", KIND.lower()): _Call(
                permission=f"{KIND}/read",
                name="GetManagedClusterHandler.GET",
                limit=self.reads,
                bucket=lambda cluster: cluster.resource_id,
                answer=lambda cluster, _: cluster.document(entra.tenant),
            ),
            ("POST", f"{KIND}/listClusterUserCredential".lower()): _Call(
                permission=f"{KIND}/listClusterUserCredential/action",
                name="ListManagedClusterUserCredentialHandler.POST",
                limit=self.others,
                bucket=lambda cluster: f"{cluster.subscription}/{cluster.location}",
                answer=self._user_credential,
            ),
        }
        self.application = web.Application(middlewares=middlewares)
        self.application.router.add_route("*", "/{path:.*}", self._handle)

    def add_cluster(self, cluster: ManagedCluster) -> ManagedCluster:
        self._clusters[cluster.resource_id.lower()] = cluster
        return cluster

    def remove_cluster(self, resource_id: str) -> None:
        del self._clusters[resource_id.lower()]

    def assign(self, principal_id: str, scope: str, actions: frozenset[str]) -> None:
        """What a principal may do at a scope (a subscription, a group, a cluster) and below. Works at once; the real
        one takes minutes.
        """
        self._assignments.add((principal_id, scope.lower(), actions))

    def unassign(self, principal_id: str, scope: str, actions: frozenset[str]) -> None:
        self._assignments.remove((principal_id, scope.lower(), actions))

    async def _handle(self, request: web.Request) -> web.Response:
        # A browser without a token hears of the missing version first, and so does everybody.
        version = request.query.get("api-version")
        if not version:
            missing = "The api-version query parameter (?api-version=) is required for all requests."
            raise _error(400, "MissingApiVersionParameter", missing)
        claims = self._authenticated(request)
        at = _PATH.fullmatch(request.path)
        call = self._calls.get((request.method, f"{at['kind']}{at['action'] or ''}".lower())) if at else None
        if at is None or call is None:
            raise _error(400, "InvalidResourceType", f"This stand-in does not serve {request.method} {request.path}.")
        if version not in _VERSIONS:
            supported = ",".join(sorted(_VERSIONS))
            invalid = f"The api-version '{version}' is invalid. The supported versions are '{supported}'."
            raise _error(400, "InvalidApiVersionParameter", invalid)
        self._authorize(claims, call.permission, at)
        cluster = self._found(at)
        self._throttle(call, cluster)
        return web.json_response(call.answer(cluster, request.query))

    def _authenticated(self, request: web.Request) -> Mapping[str, Any]:
        """The claims of the caller's token."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            missing = "Authentication failed. The 'Authorization' header is missing."
            raise self._unauthenticated("AuthenticationFailed", missing)
        try:
            audience = jwt.decode(token, options={"verify_signature": False}).get("aud")
            if audience not in _AUDIENCES:
                allowed = ",".join(f"'{one}'" for one in _AUDIENCES)
                wrong = (
                    f"The access token has been obtained for wrong audience or resource '{audience}'. It should "
                    f"exactly match with one of the allowed audiences {allowed}."
                )
                raise self._unauthenticated("InvalidAuthenticationTokenAudience", wrong)
            return self._entra.verify(token, audience)
        except jwt.ExpiredSignatureError:
            late = f"The access token expiry UTC time is earlier than current UTC time '{self._clock():%m/%d/%Y %X}'."
            raise self._unauthenticated("ExpiredAuthenticationToken", late) from None
        except jwt.PyJWTError:
            raise self._unauthenticated("InvalidAuthenticationToken", "The access token is invalid.") from None

    def _unauthenticated(self, code: str, message: str) -> Refusal:
        uri = f"https://login.windows.net/{self._entra.tenant}"
        challenge = f'Bearer authorization_uri="{uri}", error="invalid_token", error_description="{message}"'
        return _error(401, code, message, {"WWW-Authenticate": challenge})

    def _authorize(self, claims: Mapping[str, Any], permission: str, at: re.Match[str]) -> None:
        """Comes before the resource is looked for: nobody learns what exists out of their sight."""
        subscription = at["subscription"]
        if not any(cluster.subscription.lower() == subscription.lower() for cluster in self._clusters.values()):
            raise _error(404, "SubscriptionNotFound", f"The subscription '{subscription}' could not be found.")
        scope = at["resource"]
        for principal, assigned, actions in self._assignments:
            covered = f"{scope}/".lower().startswith(f"{assigned.rstrip('/')}/")
            granted = any(fnmatchcase(permission.lower(), action.lower()) for action in actions)
            if principal == claims["oid"] and covered and granted:
                return
        raise _error(
            403,
            "AuthorizationFailed",
            f"The client '{claims['appid']}' with object id '{claims['oid']}' does not have authorization to perform "
            f"action '{permission}' over scope '{scope}' or the scope is invalid. If access was recently granted, "
            "please refresh your credentials.",
        )

    def _found(self, at: re.Match[str]) -> ManagedCluster:
        cluster = self._clusters.get(at["resource"].lower())
        if cluster:
            return cluster
        place = at["subscription"].lower(), at["group"].lower()
        if place not in {(known.subscription.lower(), known.group.lower()) for known in self._clusters.values()}:
            raise _error(404, "ResourceGroupNotFound", f"Resource group '{at['group']}' could not be found.")
        raise _error(
            404,
            "ResourceNotFound",
            f"The Resource '{KIND}/{at['name']}' under resource group '{at['group']}' was not found. For more details "
            "please go to https://aka.ms/ARMResourceNotFoundFix",
        )

    def _throttle(self, call: _Call, cluster: ManagedCluster) -> None:
        wait = call.limit.take(call.bucket(cluster).lower(), self._clock())
        if wait:
            seconds = math.ceil(wait.total_seconds())
            raise _error(
                429,
                "Throttled",
                f"The {call.name} request limit has been exceeded for SubID='{cluster.subscription}', please retry "
                f"again in {seconds} seconds. For more information, please visit aka.ms/aks/throttling",
                {"Retry-After": str(seconds)},
            )

    def _user_credential(self, cluster: ManagedCluster, query: Mapping[str, str]) -> Mapping[str, Any]:
        kubeconfig = cluster.kubeconfig(self._entra.tenant, query.get("format", "exec"))
        return {"kubeconfigs": [{"name": "clusterUser", "value": encoded(kubeconfig)}]}


def _error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Refusal:
    return Refusal(status, {"error": {"code": code, "message": message}}, headers)
