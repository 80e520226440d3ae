"""What Azure Resource Manager knows of a cluster: where its API server is, its CA, whether it runs, and its issuer.

Asked only when needed: at onboarding, after an address has gone stale, and for the client certificate of a cluster with
local accounts. AKS allows one such call a second per subscription and region.
"""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

import yaml
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError

from pullkeeper.azure.arm import Arm
from pullkeeper.errors import ClusterChanging, ClusterGone, ClusterStopped, InternalError, WorkloadIdentityOff
from pullkeeper.model import ClusterId, Endpoint
from pullkeeper.tokens import ClientCertificate

_PAUSE: Final = 5.0
_AT_REST: Final = frozenset({"Succeeded", "Failed", "Canceled"})


@dataclass(frozen=True, slots=True)
class Located:
    """certificate: only where the cluster has no Entra integration."""

    endpoint: Endpoint
    certificate: ClientCertificate | None


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """issuer: of the cluster's service account tokens, to the letter; None where it is off."""

    location: str
    version: str
    power_state: str
    provisioning_state: str
    issuer: str | None
    workload_identity: bool


class AzureClusters:
    """Clusters under one identity.

    patience: how long one try waits for a cluster to change: the API server restarts, and functions end after five
    minutes. The queue tries five times.
    """

    def __init__(self, arm: Arm, clock: Callable[[], datetime], patience: timedelta = timedelta(minutes=4)) -> None:
        self._arm = arm
        self._clock = clock
        self._patience = patience.total_seconds()

    async def describe(self, cluster: ClusterId) -> ClusterFacts:
        """Raises ClusterGone, ArmDenied, ArmThrottled, EntraError."""
        async with await self._client(cluster) as client:
            return _facts(await self._get(client, cluster))

    async def locate(self, cluster: ClusterId) -> Located:
        """Raises as `describe` does, and ClusterStopped."""
        at = {"cluster": str(cluster)}
        async with await self._client(cluster) as client:
            state = _facts(await self._get(client, cluster)).power_state
            if state != "Running":
                raise ClusterStopped(f"power state: {state}", at)
            async with self._arm.answered(at, missing=ClusterGone):
                given = await client.managed_clusters.list_cluster_user_credentials(
                    cluster.resource_group, cluster.name
                )
        return self._parsed(getattr(given, "kubeconfigs", None), at)

    async def enable_workload_identity(self, cluster: ClusterId) -> ClusterFacts:
        """Switch OIDC issuer and workload identity on, and wait until the cluster has it.

        Azure takes whole clusters only: what was read is changed in place and put back under its ETag, so that nothing
        that we do not know is lost. Raises as `describe` does; ClusterChanging where it takes longer than one try can
        wait, or somebody else changes the cluster.
        """
        at, state = {"cluster": str(cluster)}, "unknown"
        try:
            async with asyncio.timeout(self._patience), await self._client(cluster) as client:
                found = await self._get(client, cluster)
                while (state := _facts(found).provisioning_state) not in _AT_REST:
                    await asyncio.sleep(_PAUSE)
                    found = await self._get(client, cluster)
                facts = _facts(found)
                if not (facts.issuer and facts.workload_identity):
                    state = "Updating"
                    await self._put_enabled(client, cluster, found)
                    facts = _facts(await self._get(client, cluster))
        except TimeoutError:
            raise ClusterChanging(f"Azure is at work on the cluster ({state})", at) from None
        if not (facts.issuer and facts.workload_identity):
            raise ClusterChanging("OIDC issuer and workload identity are asked for, and not on yet", at)
        return facts

    async def _put_enabled(self, client: Any, cluster: ClusterId, found: Any) -> None:
        at = {"cluster": str(cluster)}
        properties = found["properties"]
        properties["oidcIssuerProfile"] = {**(properties.get("oidcIssuerProfile") or {}), "enabled": True}
        security = properties.get("securityProfile") or {}
        properties["securityProfile"] = {**security, "workloadIdentity": {"enabled": True}}
        try:
            async with self._arm.answered(at, missing=ClusterGone, conflicts=True, within=self._patience):
                poller = await client.managed_clusters.begin_create_or_update(
                    cluster.resource_group,
                    cluster.name,
                    found,
                    etag=found.get("eTag") or found.get("etag"),
                    match_condition=MatchConditions.IfNotModified,
                )
                await _finished(poller, at)
        except HttpResponseError as e:
            raise ClusterChanging(f"somebody else changed the cluster meanwhile: {e.message}", at) from None

    async def _client(self, cluster: ClusterId) -> Any:
        # The SDK costs 0.2 s to import; a fleet in steady state never needs it.
        from azure.mgmt.containerservice.aio import ContainerServiceClient  # noqa: PLC0415

        return await self._arm.open(ContainerServiceClient, cluster.subscription)

    async def _get(self, client: Any, cluster: ClusterId) -> Any:
        async with self._arm.answered({"cluster": str(cluster)}, missing=ClusterGone):
            return await client.managed_clusters.get(cluster.resource_group, cluster.name)

    def _parsed(self, kubeconfigs: Any, at: dict[str, str]) -> Located:
        try:
            document = yaml.safe_load(kubeconfigs[0].value)
            server = document["clusters"][0]["cluster"]
            user = document["users"][0]["user"]
            certificate = (
                ClientCertificate(_decoded(user["client-certificate-data"]), _decoded(user["client-key-data"]))
                if "client-certificate-data" in user
                else None
            )
            endpoint = Endpoint(
                server=server["server"].rstrip("/"),
                ca=_decoded(server["certificate-authority-data"]),
                local_accounts=certificate is not None,
                read_at=self._clock(),
            )
        except (AttributeError, KeyError, IndexError, TypeError, ValueError, yaml.YAMLError) as e:
            # Not chained: a kubeconfig holds a key.
            raise InternalError(f"the kubeconfig from Azure has an unknown form ({type(e).__name__})", at) from None
        return Located(endpoint, certificate)


async def _finished(poller: Any, at: dict[str, str]) -> None:
    """Wait for a change. One that fails is told with 200 for the asking: another try would fail in the same way."""
    try:
        await poller.result()
    except HttpResponseError as e:
        if e.status_code != HTTPStatus.OK:
            raise
        raise WorkloadIdentityOff(f"Azure could not switch it on: {e.message}", at) from None


def _facts(found: Any) -> ClusterFacts:
    """Raises InternalError for JSON that is no cluster: the SDK hands out whatever it got."""
    try:
        properties = found["properties"]
        issuer = properties.get("oidcIssuerProfile") or {}
        identity = (properties.get("securityProfile") or {}).get("workloadIdentity") or {}
        return ClusterFacts(
            location=found["location"],
            version=properties.get("currentKubernetesVersion") or properties["kubernetesVersion"],
            power_state=(properties.get("powerState") or {}).get("code", "Running"),
            provisioning_state=properties.get("provisioningState", "Succeeded"),
            issuer=issuer.get("issuerURL") if issuer.get("enabled") else None,
            workload_identity=bool(identity.get("enabled")),
        )
    except (KeyError, TypeError, AttributeError) as e:
        raise InternalError(f"Azure described a cluster in an unknown form ({type(e).__name__})") from None


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()
