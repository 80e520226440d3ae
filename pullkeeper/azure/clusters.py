"""AKS clusters in Azure Resource Manager: the API server's address and CA, the power state, the issuer.

Called only when needed: at onboarding, after an address has become stale, and for the client certificate of a cluster
with local accounts. AKS allows one such call a second per subscription and region.
"""

import asyncio
import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import yaml
from azure.core import MatchConditions

from pullkeeper.azure.arm import Arm
from pullkeeper.azure.quotas import Quota
from pullkeeper.deadline import remaining
from pullkeeper.errors import ClusterGone, ClusterStopped, InternalError
from pullkeeper.model import ClusterId, Endpoint
from pullkeeper.names import look_up
from pullkeeper.tokens import ClientCertificate

_RESOLVING: Final = 5.0
"""In seconds, for a name of a private DNS zone."""
_ONE_SECOND: Final = timedelta(seconds=1)
_AT_REST: Final = frozenset({"Succeeded", "Failed", "Canceled"})


@dataclass(frozen=True, slots=True)
class Located:
    """A cluster's API server. certificate: only where the cluster has no Entra integration."""

    endpoint: Endpoint
    certificate: ClientCertificate | None


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What onboarding has to know of a cluster. issuer: that of its service account tokens, exactly as Azure spells it;
    None where it is off. provisioning_error: why the last change failed. private_name: of a private cluster's API
    server, known to its private DNS zone only. public_name: known everywhere; a private cluster need not have one.
    document: the cluster as Azure describes it, if it has just been read.
    """

    location: str
    version: str
    power_state: str
    provisioning_state: str
    provisioning_error: str | None
    issuer: str | None
    workload_identity: bool
    private_name: str | None
    public_name: str | None
    document: Any = field(default=None, repr=False, compare=False)

    @property
    def release(self) -> tuple[int, int]:
        """Of Kubernetes: (1, 34). (0, 0) if Azure gives no version."""
        found = re.match(r"(\d+)\.(\d+)", self.version)
        return (int(found[1]), int(found[2])) if found else (0, 0)

    @property
    def is_changing(self) -> bool:
        return self.provisioning_state not in _AT_REST

    @property
    def has_workload_identity(self) -> bool:
        """Whether service accounts can be federated: it takes OIDC issuer and workload identity."""
        return self.issuer is not None and self.workload_identity


class AzureClusters:
    """Clusters under one identity."""

    def __init__(self, arm: Arm, clock: Callable[[], datetime]) -> None:
        self._arm = arm
        self._clock = clock

    async def describe(self, cluster: ClusterId) -> ClusterFacts:
        """Read a cluster. Raises ClusterGone, ArmDenied, ArmThrottled, ArmUnavailable, EntraError."""
        client = await self._client(cluster)
        async with self._arm.map_errors({"cluster": str(cluster)}, missing=ClusterGone):
            return _parse_facts(await client.managed_clusters.get(cluster.resource_group, cluster.name))

    async def locate(self, cluster: ClusterId, facts: ClusterFacts | None = None) -> Located:
        """Find the API server of a running cluster. facts: if the cluster has been read already. Raises as `describe`
        does, and ClusterStopped.

        A private cluster mostly has two names for one private address. The public one needs no private DNS zone.
        """
        at = {"cluster": str(cluster)}
        facts = facts or await self.describe(cluster)
        if facts.power_state != "Running":
            raise ClusterStopped(f"power state: {facts.power_state}", at)
        by_public_name = facts.private_name and facts.public_name and not await _resolves(facts.private_name)
        client = await self._client(cluster)
        quota = Quota(f"credentials of clusters in {cluster.subscription}/{facts.location}", _ONE_SECOND)
        async with self._arm.map_errors(at, missing=ClusterGone, quota=quota):
            credentials = await client.managed_clusters.list_cluster_user_credentials(
                cluster.resource_group, cluster.name, server_fqdn="public" if by_public_name else None
            )
        return self._parse_kubeconfig(getattr(credentials, "kubeconfigs", None), at)

    async def enable_workload_identity(self, cluster: ClusterId, facts: ClusterFacts) -> None:
        """Ask Azure to switch on OIDC issuer and workload identity. The change takes minutes: `describe` follows it.

        Azure accepts whole clusters only: the cluster is changed in place as it was read, and put back under its ETag,
        so that no field is lost. Raises as `describe` does; ClusterChanging while another change is under way,
        ArmConflict if another client has just made one.
        """
        found = facts.document
        properties = found["properties"]
        properties["oidcIssuerProfile"] = {**(properties.get("oidcIssuerProfile") or {}), "enabled": True}
        security = properties.get("securityProfile") or {}
        properties["securityProfile"] = {**security, "workloadIdentity": {"enabled": True}}
        client = await self._client(cluster)
        async with self._arm.map_errors({"cluster": str(cluster)}, missing=ClusterGone):
            await client.managed_clusters.begin_create_or_update(
                cluster.resource_group,
                cluster.name,
                found,
                etag=found.get("eTag") or found.get("etag"),
                match_condition=MatchConditions.IfNotModified,
                polling=False,
            )

    async def _client(self, cluster: ClusterId) -> Any:
        # The SDK costs 0.2 s to import; a fleet in steady state never needs it.
        from azure.mgmt.containerservice.aio import ContainerServiceClient  # noqa: PLC0415

        return await self._arm.open(ContainerServiceClient, cluster.subscription)

    def _parse_kubeconfig(self, kubeconfigs: Any, at: dict[str, str]) -> Located:
        try:
            document = yaml.safe_load(kubeconfigs[0].value)
            server = document["clusters"][0]["cluster"]
            user = document["users"][0]["user"]
            certificate = (
                ClientCertificate(_decode(user["client-certificate-data"]), _decode(user["client-key-data"]))
                if "client-certificate-data" in user
                else None
            )
            endpoint = Endpoint(
                server=server["server"].rstrip("/"),
                ca=_decode(server["certificate-authority-data"]),
                local_accounts=certificate is not None,
                read_at=self._clock(),
            )
        except (AttributeError, KeyError, IndexError, TypeError, ValueError, yaml.YAMLError) as e:
            # Not chained: a kubeconfig contains a key.
            raise InternalError(f"the kubeconfig from Azure has an unknown form ({type(e).__name__})", at) from None
        return Located(endpoint, certificate)


def _parse_facts(found: Any) -> ClusterFacts:
    """Raises InternalError for JSON that is no cluster: the SDK returns any response as it is."""
    try:
        properties = found["properties"]
        issuer = properties.get("oidcIssuerProfile") or {}
        identity = (properties.get("securityProfile") or {}).get("workloadIdentity") or {}
        error = (properties.get("status") or {}).get("provisioningError") or {}
        return ClusterFacts(
            location=found["location"],
            version=properties.get("currentKubernetesVersion") or properties["kubernetesVersion"],
            power_state=(properties.get("powerState") or {}).get("code", "Running"),
            provisioning_state=properties.get("provisioningState", "Succeeded"),
            provisioning_error=error.get("message") or error.get("code"),
            issuer=issuer.get("issuerURL") if issuer.get("enabled") else None,
            workload_identity=bool(identity.get("enabled")),
            private_name=properties.get("privateFQDN"),
            public_name=properties.get("fqdn"),
            document=found,
        )
    except (KeyError, TypeError, AttributeError) as e:
        raise InternalError(f"Azure described a cluster in an unknown form ({type(e).__name__})") from None


async def _resolves(name: str) -> bool:
    try:
        async with asyncio.timeout(remaining(_RESOLVING)):
            await look_up(name)
    except (OSError, TimeoutError, UnicodeError):
        return False
    return True


def _decode(text: str) -> str:
    return base64.b64decode(text).decode()
