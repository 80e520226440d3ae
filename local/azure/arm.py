"""Azure Resource Manager: checks a request in the order of the real one, then passes it to a resource provider.

The order: api-version, token, limits of calls, role assignments at the scope and at the scopes that the body links,
resource group, locks and policies. The provider then looks for the resource, and has limits of its own. Error bodies
are Azure's. Each provider lists its routes; every other call is a 501.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Final, NamedTuple

import jwt
from aiohttp import web
from aiohttp.typedefs import Middleware

from local.azure.clusters import Clusters
from local.azure.entra import Entra
from local.azure.federated_credentials import FEDERATED, FederatedCredentials
from local.azure.function_apps import FunctionApps
from local.azure.governance import Governance
from local.azure.managed_cluster import KIND
from local.azure.managed_identities import IDENTITIES, ManagedIdentities
from local.azure.principal_limits import PrincipalLimits
from local.azure.routing import (
    ArmRequest,
    Provider,
    RateLimit,
    ResourcePath,
    Route,
    arm_error,
    check_version,
    not_played,
    read_body,
    require_version,
)
from local.serving import Refusal

CLUSTER_USER: Final = frozenset({f"{KIND}/read", f"{KIND}/listClusterUserCredential/action"})
"""The actions of the role Azure Kubernetes Service Cluster User Role."""
READER: Final = frozenset({"*/read"})
"""The actions of the role Reader."""
ONBOARDER: Final = (
    CLUSTER_USER
    | {f"{KIND}/write"}
    | {f"{kind}/{verb}" for kind in (IDENTITIES, FEDERATED) for verb in ("read", "write", "delete")}
)
"""What onboarding and offboarding need."""
_SUBSCRIPTIONS_VERSION: Final = "2022-12-01"
_LIST_VERSION: Final = "2026-06-01"
"""Of `az aks list`, which is all that calls it."""


class Write(NamedTuple):
    """A request that changed something."""

    method: str
    path: str


class Arm:
    """Resources by id, compared without regard to case, and role assignments.

    writes: every request that changed something, in order. governance: locks, policies, registrations.
    limits: on the calls of each principal.
    """

    def __init__(self, entra: Entra, clock: Callable[[], datetime], *, middlewares: Sequence[Middleware] = ()) -> None:
        self.writes: list[Write] = []
        self.governance = Governance()
        self.limits = PrincipalLimits(clock)
        self.clusters = Clusters(entra, clock)
        self.identities = ManagedIdentities(entra, clock)
        self.federated_credentials = FederatedCredentials(self.identities, clock)
        self.function_apps = FunctionApps()
        self._entra = entra
        self._clock = clock
        self._assignments: set[tuple[str, str, frozenset[str]]] = set()
        self._providers: tuple[Provider, ...] = (
            self.clusters,
            self.identities,
            self.federated_credentials,
            self.function_apps,
        )
        self._routes = [route for provider in self._providers for route in provider.routes()]
        self.application = web.Application(middlewares=middlewares)
        self.application.router.add_get("/subscriptions", self._list_subscriptions)
        clusters = "/subscriptions/{subscription}/providers/Microsoft.ContainerService/managedClusters"
        self.application.router.add_get(clusters, self._list_clusters)
        self.application.router.add_route("*", "/{path:.*}", self._handle)

    @property
    def quotas(self) -> list[RateLimit]:
        """All limits on calls, those of the providers included."""
        clusters, identities = self.clusters, self.identities
        return [
            *self.limits.by_kind.values(),
            *(clusters.lists, clusters.reads, clusters.puts, clusters.others),
            *(identities.rate, identities.creations, identities.tenant_creations, self.federated_credentials.rate),
        ]

    def assign(self, principal_id: str, scope: str, actions: frozenset[str]) -> None:
        """Allow a principal these actions at a scope (a subscription, a group, a resource) and below.

        Works at once; in Azure it takes minutes.
        """
        self._assignments.add((principal_id, scope.lower(), actions))

    def unassign(self, principal_id: str, scope: str, actions: frozenset[str]) -> None:
        self._assignments.remove((principal_id, scope.lower(), actions))

    async def _list_subscriptions(self, request: web.Request) -> web.Response:
        """Those with a resource that the caller has a role on: `az login` asks."""
        version = require_version(request)
        claims = self._authenticate(request)
        check_version(version, _SUBSCRIPTIONS_VERSION)
        ids = {scope.split("/")[2] for principal, scope, _ in self._assignments if principal == claims["oid"]}
        value = [
            {
                "id": f"/subscriptions/{one}",
                "subscriptionId": one,
                "tenantId": self._entra.tenant,
                "displayName": "local",
                "state": "Enabled",
                "authorizationSource": "RoleBased",
                "managedByTenants": [],
            }
            for one in sorted(ids)
        ]
        return web.json_response({"value": value, "count": {"type": "Total", "value": len(value)}})

    async def _list_clusters(self, request: web.Request) -> web.Response:
        """All of a subscription on which the caller has a role: `az aks list` asks."""
        version = require_version(request)
        claims = self._authenticate(request)
        check_version(version, _LIST_VERSION)
        subscription = request.match_info["subscription"]
        self.limits.count("GET", claims["oid"], subscription)
        self._authorize(claims, f"{KIND}/read", subscription, f"/subscriptions/{subscription}")
        return self.clusters.list_all(subscription)

    async def _handle(self, request: web.Request) -> web.Response:
        version = require_version(request)
        claims = self._authenticate(request)
        path = ResourcePath.parse(request.path)
        route = next((one for one in self._routes if path and one.matches(request.method, path)), None)
        if path is None or route is None:
            raise not_played(f"{request.method} {request.path}")
        check_version(version, route.version)
        self.limits.count(request.method, claims["oid"], path.subscription)
        body = await read_body(request)
        self._authorize(claims, route.permission, path.subscription, path.scope)
        self._authorize_links(claims, route, path, body)
        if (path.subscription.lower(), path.group.lower()) not in self._groups():
            raise arm_error(404, "ResourceGroupNotFound", f"Resource group '{path.group}' could not be found.")
        self.governance.check(request.method, path, body)
        return await route.handler(
            ArmRequest(
                path=path,
                url_path=request.path,
                query=request.query,
                headers=request.headers,
                body=body,
                host=f"{request.scheme}://{request.host}",
                record_write=partial(self.writes.append, Write(request.method, request.path)),
            )
        )

    def _authenticate(self, request: web.Request) -> Mapping[str, Any]:
        """Return the claims of the caller's token."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            missing = "Authentication failed. The 'Authorization' header is missing."
            raise self._refuse_unauthenticated("AuthenticationFailed", missing)
        try:
            audience = jwt.decode(token, options={"verify_signature": False}).get("aud")
            audiences = [f"{host}{slash}" for host in self._entra.arm_audiences for slash in ("/", "")]
            if audience not in audiences:
                allowed = ",".join(f"'{one}'" for one in audiences)
                wrong = (
                    f"The access token has been obtained for wrong audience or resource '{audience}'. It should "
                    f"exactly match with one of the allowed audiences {allowed}."
                )
                raise self._refuse_unauthenticated("InvalidAuthenticationTokenAudience", wrong)
            return self._entra.verify(token, audience)
        except jwt.ExpiredSignatureError:
            late = f"The access token expiry UTC time is earlier than current UTC time '{self._clock():%m/%d/%Y %X}'."
            raise self._refuse_unauthenticated("ExpiredAuthenticationToken", late) from None
        except jwt.PyJWTError:
            raise self._refuse_unauthenticated("InvalidAuthenticationToken", "The access token is invalid.") from None

    def _refuse_unauthenticated(self, code: str, message: str) -> Refusal:
        uri = f"https://login.windows.net/{self._entra.tenant}"
        challenge = f'Bearer authorization_uri="{uri}", error="invalid_token", error_description="{message}"'
        return arm_error(401, code, message, {"WWW-Authenticate": challenge})

    def _authorize(self, claims: Mapping[str, Any], permission: str, subscription: str, scope: str) -> None:
        """Runs before the resource is looked for: a caller without the role must not learn what exists."""
        if not any(subscription.lower() == known for known, _ in self._groups()):
            missing = f"The subscription '{subscription}' could not be found."
            raise arm_error(404, "SubscriptionNotFound", missing)
        if self._is_granted(claims["oid"], permission, scope):
            return
        raise arm_error(
            403,
            "AuthorizationFailed",
            f"The client '{claims['appid']}' with object id '{claims['oid']}' does not have authorization to perform "
            f"action '{permission}' over scope '{scope}' or the scope is invalid. If access was recently "
            "granted, please refresh your credentials.",
        )

    def _authorize_links(
        self, claims: Mapping[str, Any], route: Route, path: ResourcePath, body: Mapping[str, Any]
    ) -> None:
        """A body that names other resources needs rights there too: github.com/Azure/azure-cli/issues/22232."""
        for action, scope in route.links(body):
            if not self._is_granted(claims["oid"], action, scope):
                raise arm_error(
                    403,
                    "LinkedAuthorizationFailed",
                    f"The client '{claims['appid']}' with object id '{claims['oid']}' has permission to perform action "
                    f"'{route.permission}' on scope '{path.scope}'; however, it does not have permission to perform "
                    f"action(s) '{action}' on the linked scope(s) '{scope}' (respectively) or the linked scope(s) are "
                    "invalid.",
                )

    def _is_granted(self, principal: str, action: str, scope: str) -> bool:
        return any(
            holder == principal
            and f"{scope}/".lower().startswith(f"{assigned.rstrip('/')}/")
            and any(fnmatchcase(action.lower(), granted.lower()) for granted in actions)
            for holder, assigned, actions in self._assignments
        )

    def _groups(self) -> set[tuple[str, str]]:
        """Subscription and name of each resource group, in lower case: those that hold a resource."""
        ids = (
            resource_id.lower().split("/") for provider in self._providers for resource_id in provider.resource_ids()
        )
        return {(parts[2], parts[4]) for parts in ids}
