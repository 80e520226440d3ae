"""Azure Resource Manager, as far as reading clusters and their user credentials goes.

It stands where the real one stands: tokens of the tenant for management.azure.com, role assignments by scope, AKS's
token buckets, and Azure's own words for every refusal. A further resource type is a row in `_operations`.
"""

import base64
import json
import math
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

import jwt
import yaml
from aiohttp import web
from aiohttp.typedefs import Middleware

from local.entra import AKS, ARM, Entra

_AKS: Final = "Microsoft.ContainerService/managedClusters"
_KUBELOGIN: Final = "80faf920-1908-4b52-b5ef-a8e7bedfc67a"
"""The public client that kubelogin signs people in with: the same in all tenants."""

READER: Final = frozenset({"*/read"})
CLUSTER_USER: Final = frozenset({f"{_AKS}/read", f"{_AKS}/listClusterUserCredential/action"})
"""Azure Kubernetes Service Cluster User Role, without its data actions."""

API_VERSIONS: Final = frozenset({"2026-08-01"})
_PATH: Final = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)"
    r"/providers/(?P<type>[^/]+/[^/]+)/(?P<name>[^/]+)(/(?P<action>[^/]+))?",
    re.IGNORECASE,
)


@dataclass(slots=True)
class ManagedCluster:
    """An AKS cluster. client_certificate and client_key (PEM): one with local accounts, without Entra integration."""

    resource_id: str
    server: str
    ca_pem: str
    client_certificate: str | None = None
    client_key: str | None = None
    version: str = "1.34.2"
    power_state: str = "Running"
    provisioning_state: str = "Succeeded"
    location: str = "westeurope"
    oidc_issuer: str | None = None
    workload_identity: bool = False
    azure_rbac: bool = False
    private: bool = False
    authorized_ranges: list[str] = field(default_factory=list)
    etag: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def entra(self) -> bool:
        return self.client_certificate is None


@dataclass(slots=True)
class Limit:
    """A token bucket for each key: so many calls at once, and another one every so often. A test may change both."""

    burst: int
    refill: timedelta = timedelta(seconds=1)
    _full_at: dict[str, datetime] = field(default_factory=dict)

    def take(self, key: str, now: datetime) -> timedelta:
        """Take one call out. How long to wait where there is none; zero where there was one."""
        full_at = max(self._full_at.get(key, now), now) + self.refill
        wait = full_at - now - self.burst * self.refill
        if wait > timedelta():
            return wait
        self._full_at[key] = full_at
        return timedelta()


@dataclass(frozen=True, slots=True)
class _Operation:
    """permission: the action a role must grant. handler: what AKS calls it when it throttles."""

    permission: str
    handler: str
    limit: Limit
    per_cluster: bool
    answer: Callable[[ManagedCluster, web.Request], Mapping[str, Any]]


class Arm:
    """Clusters by resource id, and who may do what to them. Ids are compared without regard to case, as Azure does."""

    def __init__(self, entra: Entra, clock: Callable[[], datetime], *, middlewares: Sequence[Middleware] = ()) -> None:
        self._entra = entra
        self._clock = clock
        self._clusters: dict[str, ManagedCluster] = {}
        self._assignments: set[tuple[str, str, frozenset[str]]] = set()
        # GETs count by cluster, the rest by subscription and region: learn.microsoft.com/azure/aks/quotas-skus-regions
        self.reads = Limit(60)
        self.others = Limit(60)
        user_credential = f"{_AKS}/listClusterUserCredential"
        self._operations = {
            ("GET", _AKS.lower()): _Operation(
                f"{_AKS}/read", "GetManagedClusterHandler.GET", self.reads, per_cluster=True, answer=self._cluster
            ),
            ("POST", user_credential.lower()): _Operation(
                f"{user_credential}/action",
                "ListManagedClusterUserCredentialHandler.POST",
                self.others,
                per_cluster=False,
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
        """A role assignment: what a principal may do at this scope (a subscription, a group, a cluster) and below."""
        self._assignments.add((principal_id, scope.lower(), actions))

    def unassign(self, principal_id: str, scope: str, actions: frozenset[str]) -> None:
        self._assignments.discard((principal_id, scope.lower(), actions))

    async def _handle(self, request: web.Request) -> web.Response:
        claims = self._authenticated(request)
        found = _PATH.fullmatch(request.path)
        kind = f"{found['type']}/{found['action'] or ''}".rstrip("/").lower() if found else ""
        operation = self._operations.get((request.method, kind))
        if found is None or operation is None:
            raise _error(400, "InvalidRequest", f"The stand-in knows nothing of {request.method} {request.path}.")
        self._authorized(claims, operation.permission, found)
        cluster = self._found(found)
        self._within(operation, cluster, found["subscription"])
        return web.json_response(operation.answer(cluster, request))

    def _authenticated(self, request: web.Request) -> Mapping[str, Any]:
        """The caller's claims. A browser without a token hears of the missing version first, and so does anybody."""
        version = request.query.get("api-version")
        if not version:
            missing = "The api-version query parameter (?api-version=) is required for all requests."
            raise _error(400, "MissingApiVersionParameter", missing)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise self._unauthenticated("AuthenticationFailed", "The 'Authorization' header is missing.")
        try:
            # What the tenant calls the resource may end in a slash or not.
            audience = jwt.decode(token, options={"verify_signature": False}).get("aud")
            if audience not in {ARM, f"{ARM}/"}:
                wrong = f"The access token has been obtained for wrong audience or resource '{audience}'."
                raise self._unauthenticated("InvalidAuthenticationTokenAudience", wrong)
            claims = self._entra.verify(token, audience)
        except jwt.ExpiredSignatureError:
            raise self._unauthenticated("ExpiredAuthenticationToken", "The access token has expired.") from None
        except jwt.PyJWTError:
            raise self._unauthenticated("InvalidAuthenticationToken", "The access token is invalid.") from None
        if version not in API_VERSIONS:
            supported = ",".join(sorted(API_VERSIONS))
            invalid = f"The api-version '{version}' is invalid. The supported versions are '{supported}'."
            raise _error(400, "InvalidApiVersionParameter", invalid)
        return claims

    def _unauthenticated(self, code: str, message: str) -> web.HTTPException:
        uri = f"https://login.windows.net/{self._entra.tenant}"
        challenge = f'Bearer authorization_uri="{uri}", error="invalid_token", error_description="{message}"'
        return _error(401, code, message, {"WWW-Authenticate": challenge})

    def _authorized(self, claims: Mapping[str, Any], permission: str, at: re.Match[str]) -> None:
        """Nobody learns whether a thing exists that they have no right to see."""
        subscription = at["subscription"].lower()
        if not any(known.split("/")[2] == subscription for known in self._clusters):
            raise _error(404, "SubscriptionNotFound", f"The subscription '{at['subscription']}' could not be found.")
        scope = at[0].removesuffix(f"/{at['action']}")
        for principal, assigned, actions in self._assignments:
            covers = f"{scope.lower()}/".startswith(f"{assigned.rstrip('/')}/")
            allows = any(fnmatchcase(permission.lower(), action.lower()) for action in actions)
            if principal == claims["oid"] and covers and allows:
                return
        raise _error(
            403,
            "AuthorizationFailed",
            f"The client '{claims['appid']}' with object id '{claims['oid']}' does not have authorization to perform "
            f"action '{permission}' over scope '{scope}' or the scope is invalid. If access was recently granted, "
            "please refresh your credentials.",
        )

    def _found(self, at: re.Match[str]) -> ManagedCluster:
        group, name = at["group"], at["name"]
        cluster = self._clusters.get(at[0].removesuffix(f"/{at['action']}").lower())
        if cluster:
            return cluster
        within = f"/subscriptions/{at['subscription']}/resourceGroups/{group}/".lower()
        if not any(known.startswith(within) for known in self._clusters):
            raise _error(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.")
        raise _error(
            404,
            "ResourceNotFound",
            f"The Resource '{_AKS}/{name}' under resource group '{group}' was not found. For more details please go to "
            "https://aka.ms/ARMResourceNotFoundFix",
        )

    def _within(self, operation: _Operation, cluster: ManagedCluster, subscription: str) -> None:
        key = cluster.resource_id if operation.per_cluster else f"{subscription}/{cluster.location}"
        wait = operation.limit.take(key.lower(), self._clock())
        if wait:
            seconds = math.ceil(wait.total_seconds())
            raise _error(
                429,
                "Throttled",
                f"The {operation.handler} request limit has been exceeded for SubID='{subscription}', please retry "
                f"again in {seconds} seconds. For more information, please visit aka.ms/aks/throttling",
                {"Retry-After": str(seconds)},
            )

    def _cluster(self, cluster: ManagedCluster, _: web.Request) -> Mapping[str, Any]:
        parts = cluster.resource_id.split("/")
        # An enabled issuer has an address; the others do not even have the field.
        issuer = {"enabled": True, "issuerURL": cluster.oidc_issuer} if cluster.oidc_issuer else {"enabled": False}
        entra = {"managed": True, "enableAzureRBAC": cluster.azure_rbac, "tenantID": self._entra.tenant}
        identity = {"workloadIdentity": {"enabled": True}} if cluster.workload_identity else {}
        return {
            "id": f"/subscriptions/{parts[2]}/resourcegroups/{parts[4]}/providers/{_AKS}/{parts[8]}",
            "name": parts[8],
            "type": "Microsoft.ContainerService/ManagedClusters",
            "location": cluster.location,
            "eTag": cluster.etag,
            "properties": {
                "provisioningState": cluster.provisioning_state,
                "powerState": {"code": cluster.power_state},
                "kubernetesVersion": cluster.version,
                "currentKubernetesVersion": cluster.version,
                "fqdn": cluster.server.partition("://")[2].partition(":")[0],
                "enableRBAC": True,
                "disableLocalAccounts": False,
                "apiServerAccessProfile": {
                    "enablePrivateCluster": cluster.private,
                    "authorizedIPRanges": cluster.authorized_ranges,
                },
                "oidcIssuerProfile": issuer,
                "securityProfile": identity,
                **({"aadProfile": entra} if cluster.entra else {}),
            },
        }

    def _user_credential(self, cluster: ManagedCluster, request: web.Request) -> Mapping[str, Any]:
        parts = cluster.resource_id.split("/")
        group, name = parts[4], parts[8]
        user = f"clusterUser_{group}_{name}"
        kubeconfig = {
            "apiVersion": "v1",
            "clusters": [
                {
                    "cluster": {"certificate-authority-data": _encoded(cluster.ca_pem), "server": cluster.server},
                    "name": name,
                }
            ],
            "contexts": [{"context": {"cluster": name, "user": user}, "name": name}],
            "current-context": name,
            "kind": "Config",
            "preferences": {},
            "users": [{"name": user, "user": self._user(cluster, request.query.get("format", "exec"))}],
        }
        return {"kubeconfigs": [{"name": "clusterUser", "value": _encoded(yaml.safe_dump(kubeconfig))}]}

    def _user(self, cluster: ManagedCluster, form: str) -> Mapping[str, Any]:
        if cluster.client_certificate and cluster.client_key:
            return {
                "client-certificate-data": _encoded(cluster.client_certificate),
                "client-key-data": _encoded(cluster.client_key),
                "token": uuid.uuid5(uuid.NAMESPACE_URL, cluster.resource_id).hex * 4,
            }
        who = {"server-id": AKS, "client-id": _KUBELOGIN, "tenant-id": self._entra.tenant}
        if form == "azure":
            config = {"apiserver-id": AKS, "client-id": _KUBELOGIN, "config-mode": "1", "tenant-id": self._entra.tenant}
            return {"auth-provider": {"name": "azure", "config": {"environment": "AzurePublicCloud", **config}}}
        arguments = [part for option, value in who.items() for part in (f"--{option}", value)]
        return {
            "exec": {
                "apiVersion": "client.authentication.k8s.io/v1beta1",
                "args": ["get-token", "--environment", "AzurePublicCloud", *arguments, "--login", "devicecode"],
                "command": "kubelogin",
                "env": None,
                "provideClusterInfo": False,
            }
        }


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.HTTPException:
    class Refusal(web.HTTPException):
        status_code = status

    body = json.dumps({"error": {"code": code, "message": message}})
    return Refusal(text=body, content_type="application/json", headers=headers)
