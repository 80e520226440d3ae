"""AKS as Azure Resource Manager shows it: clusters, the credentials of their users, and updates that take their time.

What AKS itself refuses has no "error" around it: github.com/hashicorp/terraform-provider-azurerm and others show the
bodies. Limits: learn.microsoft.com/azure/aks/quotas-skus-regions. ETags: learn.microsoft.com/azure/aks/use-etags.
"""

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from aiohttp import web

from local.azure.call import Asked, Call, Limit, located, not_found, refusal, refused, seconds
from local.azure.entra import Entra
from local.azure.managed_cluster import KIND, ManagedCluster, encoded

OPERATIONS: Final = "Microsoft.ContainerService/locations/operations"
_VERSION: Final = "2026-08-01"
_OPERATION_VERSION: Final = "2017-08-31"


@dataclass(slots=True)
class _Update:
    """failure: code and message that it ends with."""

    cluster: ManagedCluster
    started: datetime
    ends: datetime
    failure: tuple[str, str] | None
    ended: bool = False


class Clusters:
    """reads: of one cluster. puts: of one cluster. others: by subscription and region.

    updating: how long an update takes by the clock. failure: code and message that the next update ends with.
    """

    def __init__(self, entra: Entra, clock: Callable[[], datetime]) -> None:
        self.reads, self.puts, self.others = Limit(60), Limit(20, timedelta(minutes=1)), Limit(60)
        self.updating = timedelta(seconds=2)
        self.failure: tuple[str, str] | None = None
        self._entra = entra
        self._clock = clock
        self._held: dict[str, ManagedCluster] = {}
        self._updates: dict[str, _Update] = {}

    def add(self, cluster: ManagedCluster) -> ManagedCluster:
        self._held[cluster.resource_id.lower()] = cluster
        return cluster

    def remove(self, resource_id: str) -> None:
        del self._held[resource_id.lower()]

    def get(self, resource_id: str) -> ManagedCluster:
        return self._held[resource_id.lower()]

    def resource_ids(self) -> Iterable[str]:
        return list(self._held)

    def calls(self) -> Iterable[Call]:
        credential = f"{KIND}/listClusterUserCredential"
        return [
            Call("GET", KIND, 1, _VERSION, f"{KIND}/read", self._get),
            Call("PUT", KIND, 1, _VERSION, f"{KIND}/write", self._put),
            Call("POST", credential, 1, _VERSION, f"{credential}/action", self._user_credential),
            Call("GET", OPERATIONS, 2, _OPERATION_VERSION, f"{OPERATIONS}/read", self._operation, in_group=False),
        ]

    async def _get(self, asked: Asked) -> web.Response:
        cluster = self._found(asked)
        self._throttle(self.reads, "GetManagedClusterHandler.GET", cluster, cluster.resource_id)
        return web.json_response(cluster.document(self._entra.tenant))

    async def _user_credential(self, asked: Asked) -> web.Response:
        cluster = self._found(asked)
        where = f"{cluster.subscription}/{cluster.location}"
        self._throttle(self.others, "ListManagedClusterUserCredentialHandler.POST", cluster, where)
        kubeconfig = cluster.kubeconfig(self._entra.tenant, asked.query.get("format", "exec"))
        return web.json_response({"kubeconfigs": [{"name": "clusterUser", "value": encoded(kubeconfig)}]})

    async def _put(self, asked: Asked) -> web.Response:
        """Replace a cluster. Making one takes more than a stand-in has."""
        cluster = self._settled(asked)
        if cluster is None:
            if asked.headers.get("If-Match"):
                raise _precondition()
            raise refusal(400, "InvalidParameter", "This stand-in changes clusters that it was given, it makes none.")
        self._throttle(self.puts, "PutManagedClusterHandler.PUT", cluster, cluster.resource_id)
        # The SDK quotes what Azure gave it without.
        wanted = asked.headers.get("If-Match", "").strip('"')
        if wanted not in {"", "*", cluster.etag} or asked.headers.get("If-None-Match"):
            raise _precondition()
        self._check(cluster, asked)
        now = self._clock()
        operation = str(uuid.uuid4())
        self._updates[operation] = _Update(cluster, now, now + self.updating, self.failure)
        self.failure = None
        cluster.replace(asked.body, self._entra.tenant)
        asked.changed()
        where = f"{asked.host}/subscriptions/{cluster.subscription}/providers/Microsoft.ContainerService"
        poll = f"{where}/locations/{cluster.location}/operations/{operation}?api-version={_OPERATION_VERSION}"
        return web.json_response(cluster.document(self._entra.tenant), headers={"Azure-AsyncOperation": poll})

    def _check(self, cluster: ManagedCluster, asked: Asked) -> None:
        if cluster.provisioning_state not in {"Succeeded", "Failed", "Canceled"}:
            raise _aks(
                409,
                "OperationNotAllowed",
                f"Operation is not allowed: Another operation ({cluster.provisioning_state}) is in progress, please "
                "wait for it to finish before starting a new operation. See https://aka.ms/aks-pending-operation for "
                "more details",
            )
        if cluster.power_state != "Running":
            # In our words.
            stopped = f"Operation is not allowed: the managed cluster is {cluster.power_state}, start it first."
            raise _aks(409, "OperationNotAllowed", stopped)
        located(asked.body, asked.place, cluster.location)
        properties = asked.body.get("properties")
        if not isinstance(properties, dict):
            raise refusal(400, "InvalidRequestContent", "The properties of a cluster are an object.")
        issuer = bool((properties.get("oidcIssuerProfile") or {}).get("enabled"))
        workload = bool(((properties.get("securityProfile") or {}).get("workloadIdentity") or {}).get("enabled"))
        if cluster.oidc_issuer and not issuer:
            raise _aks(400, "OIDCIssuerFeatureCannotBeDisabled", "OIDC issuer feature cannot be disabled.")
        if workload and not issuer:
            # In our words.
            raise _aks(400, "InvalidParameter", "Workload identity needs the OIDC issuer to be enabled.")

    async def _operation(self, asked: Asked) -> web.Response:
        location, operation = asked.place.names
        self._settle()
        update = self._updates.get(operation)
        if update is None or asked.place.subscription.lower() != update.cluster.subscription.lower():
            raise refusal(404, "NotFound", f"The operation '{operation}' in '{location}' was not found.")
        where = f"{update.cluster.subscription}/{update.cluster.location}"
        self._throttle(self.others, "GetOperationStatusHandler.GET", update.cluster, where)
        answer: dict[str, Any] = {"name": operation, "status": "InProgress", "startTime": _stamp(update.started)}
        if update.ended:
            answer |= {"status": "Failed" if update.failure else "Succeeded", "endTime": _stamp(update.ends)}
        if update.ended and update.failure:
            answer["error"] = dict(zip(("code", "message"), update.failure, strict=True))
        return web.json_response(answer)

    def _found(self, asked: Asked) -> ManagedCluster:
        cluster = self._settled(asked)
        if cluster is None:
            raise not_found(asked.place)
        return cluster

    def _settled(self, asked: Asked) -> ManagedCluster | None:
        self._settle()
        place = asked.place
        return self._held.get(
            f"/subscriptions/{place.subscription}/resourceGroups/{place.group}/providers/{KIND}/{place.names[0]}".lower()
        )

    def _settle(self) -> None:
        """End the updates whose time has come. Nobody sees a cluster without this."""
        for update in self._updates.values():
            if not update.ended and self._clock() >= update.ends:
                update.ended = True
                update.cluster.settle(self._entra.tenant, succeeded=not update.failure)

    def _throttle(self, limit: Limit, name: str, cluster: ManagedCluster, key: str) -> None:
        wait = limit.take(key.lower(), self._clock())
        if wait:
            again = seconds(wait)
            raise refusal(
                429,
                "Throttled",
                f"The {name} request limit has been exceeded for SubID='{cluster.subscription}', please retry "
                f"again in {again} seconds. For more information, please visit aka.ms/aks/throttling",
                {"Retry-After": again},
            )


def _aks(status: int, code: str, message: str) -> web.HTTPException:
    return refused(status, {"code": code, "details": None, "message": message, "subcode": ""})


def _precondition() -> web.HTTPException:
    # The status is documented, the words are ours.
    return _aks(412, "PreconditionFailed", "The condition of the request headers is not met: Etag mismatched")


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"
