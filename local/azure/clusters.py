"""AKS clusters in Azure Resource Manager: the resource, its user credential, and updates that take time.

An update is followed by reading the cluster; the operation that Azure names is not played.

AKS's own errors have no "error" around them: github.com/hashicorp/terraform-provider-azurerm and others quote such
bodies. Limits: learn.microsoft.com/azure/aks/quotas-skus-regions. ETags: learn.microsoft.com/azure/aks/use-etags.
"""

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from aiohttp import web

from local.azure.entra import Entra
from local.azure.managed_cluster import KIND, ManagedCluster, encode, list_links
from local.azure.routing import ArmRequest, RateLimit, Route, arm_error, not_found, not_played, parse_location
from local.serving import Refusal

_VERSION: Final = "2026-08-01"
_OPERATION_VERSION: Final = "2017-08-31"


@dataclass(slots=True)
class _Update:
    """failure: the error code and message that it ends with."""

    cluster: ManagedCluster
    ends: datetime
    failure: tuple[str, str] | None
    ended: bool = False


class Clusters:
    """Clusters by resource id.

    reads, puts: the limits for one cluster. others: the limit for a subscription and region. lists: for a subscription.
    updating: how long an update takes by the clock. failure: the error code and message that the next update ends with.
    """

    def __init__(self, entra: Entra, clock: Callable[[], datetime]) -> None:
        self.reads, self.puts, self.others = RateLimit(60), RateLimit(20, timedelta(minutes=1)), RateLimit(60)
        self.lists = RateLimit(500)
        self.updating = timedelta(seconds=2)
        self.failure: tuple[str, str] | None = None
        self._entra = entra
        self._clock = clock
        self._by_id: dict[str, ManagedCluster] = {}
        self._updates: list[_Update] = []

    def add(self, cluster: ManagedCluster) -> ManagedCluster:
        self._by_id[cluster.resource_id.lower()] = cluster
        return cluster

    def remove(self, resource_id: str) -> None:
        del self._by_id[resource_id.lower()]

    def get(self, resource_id: str) -> ManagedCluster:
        return self._by_id[resource_id.lower()]

    def resource_ids(self) -> Iterable[str]:
        return list(self._by_id)

    def routes(self) -> Iterable[Route]:
        credential = f"{KIND}/listClusterUserCredential"
        return [
            Route("GET", KIND, 1, _VERSION, f"{KIND}/read", self._get),
            Route("PUT", KIND, 1, _VERSION, f"{KIND}/write", self._put, list_links),
            Route("POST", credential, 1, _VERSION, f"{credential}/action", self._list_user_credential),
        ]

    def list_all(self, subscription: str) -> web.Response:
        """Respond with the clusters of a subscription, on one page."""
        self._end_updates()
        own = [one for one in self._by_id.values() if one.subscription.lower() == subscription.lower()]
        self._throttle(self.lists, "ListManagedClustersBySubscriptionHandler.GET", subscription, subscription)
        return web.json_response({"value": [one.document(self._entra.tenant) for one in own]})

    async def _get(self, request: ArmRequest) -> web.Response:
        cluster = self._find(request)
        self._throttle(self.reads, "GetManagedClusterHandler.GET", cluster.subscription, cluster.resource_id)
        return web.json_response(cluster.document(self._entra.tenant))

    async def _list_user_credential(self, request: ArmRequest) -> web.Response:
        cluster = self._find(request)
        if request.query.get("format", "exec") != "exec":
            raise not_played("kubeconfigs in another format than exec")
        # The one value that the Azure CLI sends (get-credentials --public-fqdn).
        public = request.query.get("server-fqdn")
        if public not in {None, "public"} or (public and not (cluster.private_server and cluster.public_fqdn)):
            raise not_played("server-fqdn but for the public name of a private cluster that has one")
        region = f"{cluster.subscription}/{cluster.location}"
        self._throttle(self.others, "ListManagedClusterUserCredentialHandler.POST", cluster.subscription, region)
        kubeconfig = encode(cluster.kubeconfig(self._entra.tenant, public=bool(public)))
        return web.json_response({"kubeconfigs": [{"name": "clusterUser", "value": kubeconfig}]})

    async def _put(self, request: ArmRequest) -> web.Response:
        """Replace a cluster. Creating one is not played."""
        self._end_updates()
        cluster = self._by_id.get(_resource_id(request))
        if cluster is None and request.headers.get("If-Match"):
            raise _precondition_failed()
        if cluster is None or request.headers.get("If-None-Match"):
            raise not_played("the creation of clusters")
        self._throttle(self.puts, "PutManagedClusterHandler.PUT", cluster.subscription, cluster.resource_id)
        # The SDK adds quotes to the ETag, which Azure returned without.
        if request.headers.get("If-Match", "").strip('"') not in {"", "*", cluster.etag}:
            raise _precondition_failed()
        _check_update(cluster, request)
        self._updates.append(_Update(cluster, self._clock() + self.updating, self.failure))
        self.failure = None
        cluster.replace(request.body)
        request.record_write()
        provider = f"{request.host}/subscriptions/{cluster.subscription}/providers/Microsoft.ContainerService"
        poll = f"{provider}/locations/{cluster.location}/operations/{uuid.uuid4()}?api-version={_OPERATION_VERSION}"
        return web.json_response(cluster.document(self._entra.tenant), headers={"Azure-AsyncOperation": poll})

    def _find(self, request: ArmRequest) -> ManagedCluster:
        self._end_updates()
        cluster = self._by_id.get(_resource_id(request))
        if cluster is None:
            raise not_found(request.path)
        return cluster

    def _end_updates(self) -> None:
        """End the updates whose time has come. Called before a cluster is looked at."""
        for update in self._updates:
            if not update.ended and self._clock() >= update.ends:
                update.ended = True
                update.cluster.end_update(self._entra.tenant, update.failure)

    def _throttle(self, limit: RateLimit, handler: str, subscription: str, key: str) -> None:
        """key: what the limit is for."""
        retry_after = limit.take(key, self._clock())
        if retry_after:
            raise arm_error(
                429,
                "Throttled",
                f"The {handler} request limit has been exceeded for SubID='{subscription}', please retry "
                f"again in {retry_after} seconds. For more information, please visit aka.ms/aks/throttling",
                {"Retry-After": retry_after},
            )


def _check_update(cluster: ManagedCluster, request: ArmRequest) -> None:
    if cluster.provisioning_state not in {"Succeeded", "Failed", "Canceled"}:
        raise _aks_error(
            409,
            "OperationNotAllowed",
            f"Operation is not allowed: Another operation ({cluster.provisioning_state}) is in progress, please "
            "wait for it to finish before starting a new operation. See https://aka.ms/aks-pending-operation for "
            "more details",
        )
    if cluster.power_state != "Running":
        # The words are ours.
        stopped = f"Operation is not allowed: the managed cluster is {cluster.power_state}, start it first."
        raise _aks_error(409, "OperationNotAllowed", stopped)
    parse_location(request, cluster.location)
    properties = request.body.get("properties")
    if not isinstance(properties, dict):
        raise arm_error(400, "InvalidRequestContent", "The properties of a cluster are an object.")
    issuer = bool((properties.get("oidcIssuerProfile") or {}).get("enabled"))
    workload = bool(((properties.get("securityProfile") or {}).get("workloadIdentity") or {}).get("enabled"))
    if cluster.oidc_issuer and not issuer:
        raise _aks_error(400, "OIDCIssuerFeatureCannotBeDisabled", "OIDC issuer feature cannot be disabled.")
    if workload and not issuer:
        # The words are ours.
        raise _aks_error(400, "InvalidParameter", "Workload identity needs the OIDC issuer to be enabled.")


def _resource_id(request: ArmRequest) -> str:
    return request.path.resource_id.lower()


def _aks_error(status: int, code: str, message: str) -> Refusal:
    return Refusal(status, {"code": code, "details": None, "message": message, "subcode": ""})


def _precondition_failed() -> Refusal:
    # The status is documented; the words are ours.
    return _aks_error(412, "PreconditionFailed", "The condition of the request headers is not met: Etag mismatched")
