"""Azure Resource Manager: who asks, and whether they may. What is asked for is the resource providers' business.

It asks what the real one asks, in its order: a version, a token of the tenant for management.azure.com, a role
assignment at the scope, the resource group; then the provider looks for the resource and counts the calls. Both refuse
in Azure's words. A further call is a row in a provider's `calls`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Final, NamedTuple

import jwt
from aiohttp import web
from aiohttp.typedefs import Middleware

from local.azure.call import Asked, Call, Limit, Place, Provider, refusal
from local.azure.clusters import OPERATIONS, Clusters
from local.azure.directory import SUBSCRIPTIONS_VERSION, Directory, subscriptions
from local.azure.entra import ARM, ARM_AS_AZ_ASKS, Entra
from local.azure.federated_credentials import FEDERATED, FederatedCredentials
from local.azure.function_apps import FunctionApps
from local.azure.managed_cluster import KIND, ManagedCluster
from local.azure.managed_identities import IDENTITIES, ManagedIdentities

__all__ = ["CLUSTER_USER", "ONBOARDER", "READER", "Arm", "Limit", "ManagedCluster", "Write"]

CLUSTER_USER: Final = frozenset({f"{KIND}/read", f"{KIND}/listClusterUserCredential/action"})
"""The actions of Azure Kubernetes Service Cluster User Role."""
READER: Final = frozenset({"*/read"})
"""The actions of Reader."""
ONBOARDER: Final = (
    CLUSTER_USER
    | {f"{KIND}/write", f"{OPERATIONS}/read"}
    | {f"{kind}/{verb}" for kind in (IDENTITIES, FEDERATED) for verb in ("read", "write", "delete")}
)
"""What onboarding and offboarding do in Azure. Operations are read at the subscription: a role on a group is not enough
to wait for a cluster's update.
"""
_AUDIENCES: Final = tuple(f"{host}{slash}" for host in (ARM_AS_AZ_ASKS, ARM) for slash in ("/", ""))


class Write(NamedTuple):
    """Something that changed."""

    method: str
    path: str


class Arm:
    """Clusters, identities and function apps by resource id, compared without regard to case, and who may do what to
    them.

    writes: every call that changed something, in order. clusters, identities, federation, function_apps: the
    providers, with the knobs of each.
    """

    def __init__(self, entra: Entra, clock: Callable[[], datetime], *, middlewares: Sequence[Middleware] = ()) -> None:
        self.writes: list[Write] = []
        self.clusters = Clusters(entra, clock)
        self.identities = ManagedIdentities(entra, clock)
        self.federated_credentials = FederatedCredentials(self.identities, clock)
        self.function_apps = FunctionApps()
        self.reads, self.others = self.clusters.reads, self.clusters.others
        self._entra = entra
        self._clock = clock
        self._groups: set[tuple[str, str]] = set()
        self._assignments: set[tuple[str, str, frozenset[str]]] = set()
        self._providers: tuple[Provider, ...] = (
            self.clusters,
            self.identities,
            self.federated_credentials,
            self.function_apps,
        )
        self._calls = [call for provider in self._providers for call in provider.calls()]
        self._calls += Directory(self._calls).calls()
        self.application = web.Application(middlewares=middlewares)
        self.application.router.add_get("/subscriptions", self._subscriptions)
        self.application.router.add_route("*", "/{path:.*}", self._handle)

    def add_group(self, subscription: str, name: str) -> None:
        """An empty resource group. Those that something is in are there anyway."""
        self._groups.add((subscription.lower(), name.lower()))

    def add_cluster(self, cluster: ManagedCluster) -> ManagedCluster:
        return self.clusters.add(cluster)

    def remove_cluster(self, resource_id: str) -> None:
        self.clusters.remove(resource_id)

    def assign(self, principal_id: str, scope: str, actions: frozenset[str]) -> None:
        """What a principal may do at a scope (a subscription, a group, a cluster) and below. Works at once; the real
        one takes minutes.
        """
        self._assignments.add((principal_id, scope.lower(), actions))

    def unassign(self, principal_id: str, scope: str, actions: frozenset[str]) -> None:
        self._assignments.remove((principal_id, scope.lower(), actions))

    async def _subscriptions(self, request: web.Request) -> web.Response:
        """Those that the caller may do anything in: a role on one resource is enough."""
        version = _version(request)
        claims = self._authenticated(request)
        if version != SUBSCRIPTIONS_VERSION:
            raise _invalid(version, SUBSCRIPTIONS_VERSION)
        seen = {scope.split("/")[2] for principal, scope, _ in self._assignments if principal == claims["oid"]}
        return web.json_response(subscriptions(self._entra.tenant, sorted(seen)))

    async def _handle(self, request: web.Request) -> web.Response:
        version = _version(request)
        claims = self._authenticated(request)
        place = Place.parse(request.path)
        call = next((one for one in self._calls if place and one.fits(request.method, place)), None)
        if place is None or call is None:
            raise refusal(400, "InvalidResourceType", f"This stand-in does not serve {request.method} {request.path}.")
        if version != call.version:
            raise _invalid(version, call.version)
        self._authorize(claims, call, place)
        self._find_group(place)
        return await call.answer(
            Asked(
                place=place,
                path=request.path,
                query=request.query,
                headers=request.headers,
                body=await _body(request),
                host=f"{request.scheme}://{request.host}",
                changed=partial(self.writes.append, Write(request.method, request.path)),
            )
        )

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

    def _unauthenticated(self, code: str, message: str) -> web.HTTPException:
        uri = f"https://login.windows.net/{self._entra.tenant}"
        challenge = f'Bearer authorization_uri="{uri}", error="invalid_token", error_description="{message}"'
        return refusal(401, code, message, {"WWW-Authenticate": challenge})

    def _authorize(self, claims: Mapping[str, Any], call: Call, place: Place) -> None:
        """Comes before the resource is looked for: nobody learns what exists out of their sight."""
        if not any(place.subscription.lower() == subscription for subscription, _ in self._known_groups()):
            missing = f"The subscription '{place.subscription}' could not be found."
            raise refusal(404, "SubscriptionNotFound", missing)
        for principal, assigned, actions in self._assignments:
            covered = f"{place.scope}/".lower().startswith(f"{assigned.rstrip('/')}/")
            granted = any(fnmatchcase(call.permission.lower(), action.lower()) for action in actions)
            if principal == claims["oid"] and covered and granted:
                return
        raise refusal(
            403,
            "AuthorizationFailed",
            f"The client '{claims['appid']}' with object id '{claims['oid']}' does not have authorization to perform "
            f"action '{call.permission}' over scope '{place.scope}' or the scope is invalid. If access was recently "
            "granted, please refresh your credentials.",
        )

    def _find_group(self, place: Place) -> None:
        if place.group and (place.subscription.lower(), place.group.lower()) not in self._known_groups():
            raise refusal(404, "ResourceGroupNotFound", f"Resource group '{place.group}' could not be found.")

    def _known_groups(self) -> set[tuple[str, str]]:
        places = (resource_id.lower().split("/") for held in self._providers for resource_id in held.resource_ids())
        return self._groups | {(place[2], place[4]) for place in places}


def _version(request: web.Request) -> str:
    """A browser without a token hears of the missing version first, and so does everybody."""
    version = request.query.get("api-version")
    if not version:
        missing = "The api-version query parameter (?api-version=) is required for all requests."
        raise refusal(400, "MissingApiVersionParameter", missing)
    return version


def _invalid(version: str, supported: str) -> web.HTTPException:
    invalid = f"The api-version '{version}' is invalid. The supported versions are '{supported}'."
    return refusal(400, "InvalidApiVersionParameter", invalid)


async def _body(request: web.Request) -> Mapping[str, Any]:
    if request.method != "PUT":
        return {}
    try:
        body = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError) as e:
        body = str(e)
    if not isinstance(body, dict):
        invalid = f"The request content was invalid and could not be deserialized: '{body}'."
        raise refusal(400, "InvalidRequestContent", invalid)
    return body
