"""What Azure Resource Manager knows of a cluster: where its API server is, its CA, and whether it runs.

Two calls, and only when needed: at onboarding, after an address has gone stale, and for the client certificate of a
cluster with local accounts. AKS allows one such call a second per subscription and region.
"""

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import yaml
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError, ResourceNotFoundError

from pullkeeper.errors import ArmDenied, ArmThrottled, ClusterGone, ClusterStopped, InternalError
from pullkeeper.model import ClusterId, Endpoint
from pullkeeper.tokens import ClientCertificate


@dataclass(frozen=True, slots=True)
class Located:
    """certificate: only where the cluster has no Entra integration."""

    endpoint: Endpoint
    certificate: ClientCertificate | None


class AzureClusters:
    """Reads clusters under one credential."""

    def __init__(
        self, credential: Callable[[], AsyncTokenCredential], arm_endpoint: str, clock: Callable[[], datetime]
    ) -> None:
        self._credential = credential
        self._arm_endpoint = arm_endpoint
        self._clock = clock

    async def locate(self, cluster: ClusterId) -> Located:
        """Raises ClusterGone, ClusterStopped, ArmDenied or ArmThrottled."""
        # The SDK costs 0.2 s to import; a fleet in steady state never needs it.
        from azure.mgmt.containerservice.aio import ContainerServiceClient  # noqa: PLC0415

        at = {"cluster": str(cluster)}
        async with ContainerServiceClient(
            self._credential(), cluster.subscription, base_url=self._arm_endpoint, redirect_max=0, retry_total=1
        ) as client:
            with _mapped(at):
                found = await client.managed_clusters.get(cluster.resource_group, cluster.name)
            if found.power_state and found.power_state.code != "Running":
                raise ClusterStopped(f"power state: {found.power_state.code}", at)
            with _mapped(at):
                given = await client.managed_clusters.list_cluster_user_credentials(
                    cluster.resource_group, cluster.name
                )
        return self._parsed(given.kubeconfigs, at)

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


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()


@contextmanager
def _mapped(at: dict[str, str]) -> Iterator[None]:
    try:
        yield
    except ResourceNotFoundError as e:
        raise ClusterGone(e.message, at) from None
    except ClientAuthenticationError as e:
        raise ArmDenied(e.message, at) from None
    except HttpResponseError as e:
        denied = e.status_code in {401, 403}
        raise (ArmDenied if denied else ArmThrottled)(e.message, at) from None
    except AzureError as e:
        raise ArmThrottled(f"{type(e).__name__}: {e.message}", at) from None
