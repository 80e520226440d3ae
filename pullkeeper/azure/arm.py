"""How every call to Azure Resource Manager is made: clients, time-outs, and errors as failure categories."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Any, Final

from azure.core.exceptions import AzureError, HttpResponseError
from azure.core.pipeline.transport import AioHttpTransport

from pullkeeper.azure.entra import Entra
from pullkeeper.azure.quotas import Quota, Quotas
from pullkeeper.azure.refusals import Meanings, map_refusal
from pullkeeper.clouds import PUBLIC
from pullkeeper.deadline import remaining
from pullkeeper.errors import ArmConflict, ArmDenied, ArmUnavailable, InternalError, PullkeeperError
from pullkeeper.proxies import find_proxies

_TIMEOUT: Final = 30.0
"""In seconds, for one call."""
_CONNECT_TIMEOUT: Final = 5
"""In seconds: a firewall that drops packets shows as no connection."""
_OPTIONS: Final[dict[str, Any]] = {"redirect_max": 0, "retry_total": 0}
"""No retries of the SDK's own: it would sleep for as long as a Retry-After says."""


class Arm:
    """Azure Resource Manager under one identity."""

    def __init__(
        self,
        entra: Entra,
        endpoint: str | PullkeeperError,
        resource: str = PUBLIC.arm_resource,
        *,
        denied: type[ArmDenied] = ArmDenied,
        quotas: Quotas | None = None,
    ) -> None:
        """endpoint: its URL, or the failure of every call if that setting is wrong. resource: what tokens for it are
        requested for.

        denied: the category of a missing right. It differs between refreshing and onboarding. quotas: for callers that
        can wait. A refresh makes its few calls at once.
        """
        self._entra = entra
        self._endpoint = endpoint
        self._resource = resource
        self._denied = denied
        self._quotas = quotas
        self._clients: dict[tuple[type, str], Any] = {}
        self._transport: AioHttpTransport | None = None

    async def open(self, client: Any, subscription: str) -> Any:
        """Return the management client of the given class. All clients share one pool of connections.

        Raises EntraError. The token is fetched here, because an SDK that fetched its first token itself would report
        Entra's failure as one of Azure Resource Manager.
        """
        if isinstance(self._endpoint, PullkeeperError):
            raise self._endpoint.with_context()
        await self._entra.token(self._resource)
        if (client, subscription) not in self._clients:
            # By default it looks up netrc and proxies for every call. Clients do not pass their time-outs on to it.
            self._transport = self._transport or AioHttpTransport(
                use_env_settings=False, connection_timeout=_CONNECT_TIMEOUT
            )
            self._clients[client, subscription] = client(
                self._entra.credential,
                subscription,
                base_url=self._endpoint,
                credential_scopes=[f"{self._resource}/.default"],
                transport=self._transport,
                proxies=find_proxies(self._endpoint),
                **_OPTIONS,
            )
        return self._clients[client, subscription]

    async def close(self) -> None:
        if self._transport:
            await self._transport.close()

    @asynccontextmanager
    async def map_errors(
        self,
        context: Mapping[str, str],
        *,
        missing: type[PullkeeperError] = InternalError,
        conflict: type[PullkeeperError] = ArmConflict,
        quota: Quota | None = None,
        seconds: float = _TIMEOUT,
    ) -> AsyncIterator[None]:
        """Limit one call in time, and translate its errors (`pullkeeper.azure.refusals`). No response is
        ArmUnavailable.

        missing: the category of 404. conflict: that of 409 and 412. quota: the one that the call counts for, where many
        operations share it. seconds: the time-out.
        """
        with self._quotas.call(quota) if quota and self._quotas else nullcontext():
            try:
                async with asyncio.timeout(remaining(seconds)):
                    yield
            except HttpResponseError as e:
                raise map_refusal(e, context, Meanings(self._denied, missing, conflict)) from None
            except (AzureError, TimeoutError, ValueError, RecursionError) as e:
                raise ArmUnavailable(f"no response from Azure Resource Manager ({type(e).__name__})", context) from None
