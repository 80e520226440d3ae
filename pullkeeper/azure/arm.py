"""How every call to Azure Resource Manager is made, and what its refusals mean."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError

from pullkeeper.azure.entra import ARM, Entra
from pullkeeper.errors import (
    ArmDenied,
    ArmThrottled,
    InternalError,
    OnboardingRoleMissing,
    OperationsRoleMissing,
    PullkeeperError,
    wait_asked,
)

TIMEOUT: Final = 30.0
"""Seconds for a call."""
_CONFLICTS: Final = frozenset({409, 412})
_OPTIONS: Final[dict[str, Any]] = {
    "redirect_max": 0,
    "retry_total": 0,
    "connection_timeout": 5,
    "read_timeout": 25,
    "polling_interval": 5,
}
"""The SDKs would sleep for as long as a Retry-After says. Whoever needs an answer asks again."""


class Arm:
    """Azure Resource Manager under one identity."""

    def __init__(self, entra: Entra, endpoint: str, denied: type[ArmDenied] = ArmDenied) -> None:
        """denied: what a refusal means for what this identity is there to do."""
        self._entra = entra
        self._endpoint = endpoint
        self._denied = denied

    async def open(self, client: Any, subscription: str) -> Any:
        """A management client of the given class. Raises EntraError: an SDK that asked for its first token itself would
        tell that trouble as if it were Azure Resource Manager's.
        """
        await self._entra.token(ARM)
        return client(self._entra.credential, subscription, base_url=self._endpoint, **_OPTIONS)

    @asynccontextmanager
    async def answered(
        self,
        at: Mapping[str, str],
        *,
        missing: type[PullkeeperError] = InternalError,
        conflicts: bool = False,
        within: float | None = None,
    ) -> AsyncIterator[None]:
        """Around one call: raises `missing` for 404, what a denial means, ArmThrottled, or InternalError for what is
        our own fault.

        conflicts: let 409 and 412 pass through, for those who know what to do; to all others they mean: not now.
        """
        try:
            async with asyncio.timeout(within or TIMEOUT):
                yield
        except ResourceNotFoundError as e:
            raise missing(e.message, at) from None
        except HttpResponseError as e:
            status = e.status_code or 0
            if conflicts and status in _CONFLICTS:
                raise
            if status in {401, 403}:
                operations = self._denied is OnboardingRoleMissing and "/locations/operations/read" in e.message
                raise (OperationsRoleMissing if operations else self._denied)(e.message, at) from None
            # 200: JSON that is none; 500 and more: its own errors.
            if status in {200, 408, 429, *_CONFLICTS} or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise ArmThrottled(e.message, at, retry_after=wait_asked(getattr(e.response, "headers", {}))) from None
            raise InternalError(e.message, at) from None
        except (AzureError, TimeoutError, ValueError) as e:
            raise ArmThrottled(f"no answer from Azure Resource Manager ({type(e).__name__})", at) from None
