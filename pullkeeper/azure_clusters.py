"""What Azure Resource Manager knows of a cluster: where its API server is, its CA, and whether it runs.

Two calls, and only when needed: at onboarding, after an address has gone stale, and for the client certificate of a
cluster with local accounts. AKS allows one such call a second per subscription and region.
"""

import asyncio
import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import yaml
from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError

from pullkeeper.entra import ARM, Entra
from pullkeeper.errors import ArmDenied, ArmThrottled, ClusterGone, ClusterStopped, InternalError, wait_asked
from pullkeeper.model import ClusterId, Endpoint
from pullkeeper.tokens import ClientCertificate

_TIMEOUT: Final = 30.0
"""Seconds for a call."""
_CALLS: Final[dict[str, Any]] = {"redirect_max": 0, "retry_total": 0, "connection_timeout": 5, "read_timeout": 25}
"""The SDK itself would sleep for as long as a Retry-After says. Whoever needs a cluster's address asks again."""


@dataclass(frozen=True, slots=True)
class Located:
    """certificate: only where the cluster has no Entra integration."""

    endpoint: Endpoint
    certificate: ClientCertificate | None


class AzureClusters:
    """Reads clusters under one credential."""

    def __init__(self, entra: Entra, arm_endpoint: str, clock: Callable[[], datetime]) -> None:
        self._entra = entra
        self._arm_endpoint = arm_endpoint
        self._clock = clock

    async def locate(self, cluster: ClusterId) -> Located:
        """Raises ClusterGone, ClusterStopped, ArmDenied, ArmThrottled, or EntraError where it never came to asking."""
        # The SDK costs 0.2 s to import; a fleet in steady state never needs it.
        from azure.mgmt.containerservice.aio import ContainerServiceClient  # noqa: PLC0415

        at = {"cluster": str(cluster)}
        # The SDK would ask the same credential, and tell its trouble as if it were Azure Resource Manager's.
        await self._entra.token(ARM)
        async with ContainerServiceClient(
            self._entra.credential, cluster.subscription, base_url=self._arm_endpoint, **_CALLS
        ) as client:
            with _mapped(at):
                async with asyncio.timeout(_TIMEOUT):
                    found = await client.managed_clusters.get(cluster.resource_group, cluster.name)
            # The SDK hands out whatever JSON it got: a list has no such attributes.
            power = getattr(found, "power_state", None)
            if power and power.code != "Running":
                raise ClusterStopped(f"power state: {getattr(power.code, 'value', 'unknown')}", at)
            with _mapped(at):
                async with asyncio.timeout(_TIMEOUT):
                    given = await client.managed_clusters.list_cluster_user_credentials(
                        cluster.resource_group, cluster.name
                    )
        return self._parsed(getattr(given, "kubeconfigs", None), at)

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
    except HttpResponseError as e:
        status = e.status_code or 0
        headers = getattr(e.response, "headers", {})
        if status in {401, 403}:
            raise ArmDenied(e.message, at) from None
        if status in {200, 408, 429} or status >= 500:  # noqa: PLR2004 - 200: JSON that is none; 500: its own errors
            raise ArmThrottled(e.message, at, retry_after=wait_asked(headers)) from None
        raise InternalError(e.message, at) from None
    except (AzureError, TimeoutError, ValueError) as e:
        raise ArmThrottled(f"no answer from Azure Resource Manager ({type(e).__name__})", at) from None
