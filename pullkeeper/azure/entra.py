"""Entra tokens for the app's own identity, from the platform's managed identity endpoint."""

import asyncio
import base64
import json
import logging
from collections.abc import Callable, Collection
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

from azure.core.credentials import AccessToken
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, HttpResponseError

from pullkeeper.deadline import remaining
from pullkeeper.errors import (
    MALFORMED,
    EntraDenied,
    EntraError,
    EntraResourceFailed,
    EntraThrottled,
    EntraUnavailable,
    parse_retry_after,
)
from pullkeeper.tokens import EntraToken, is_token

# Its warnings quote whole responses, a token included; we report what has failed.
logging.getLogger("azure.identity").setLevel(logging.CRITICAL)

_TIMEOUT: Final = 30.0
"""In seconds, with the SDK's retries."""
_KEEP: Final = 30.0
"""Seconds: every cluster needs the token, and azure-identity's cache takes a task and two timers for each look-up. It
renews a token some minutes before its end.
"""
_THROTTLED, _LONGEST_THROTTLED = timedelta(seconds=5), timedelta(minutes=1)
"""How long no token is requested after a 429 that does not say how long; and at most, because secrets may expire."""
_NOT_CACHED: Final = "{}"
"""A managed identity ignores claims, but a request with claims is never answered from the SDK's cache. Replacing the
credential instead would take it away from calls that are under way.
"""
_CLAIMS: Final = ("oid", "iss", "aud", "tid", "appid", "azp")
AKS = "6dae42f8-4368-4678-94ff-3960e28e3630"
"""The application id of every Entra-integrated AKS API server: public, the same in all tenants."""


class Entra:
    """One credential for the whole process: azure-identity caches tokens per credential object, and the endpoint
    throttles clients that fetch a token for each call.
    """

    def __init__(self, create: Callable[[], AsyncTokenCredential]) -> None:
        self.credential = create()
        self._requests: dict[tuple[str, bool], asyncio.Task[EntraToken]] = {}
        self._kept: dict[str, tuple[float, EntraToken]] = {}  # until when
        self._throttled_until = 0.0

    async def token(self, resource: str, *, fresh: bool = False) -> EntraToken:
        """Return a token for the resource; `fresh` bypasses the cache. Raises EntraUnavailable or EntraDenied;
        EntraThrottled without a request, until the time has passed that the endpoint asked for.

        Callers that want the same token at the same time share one request: azure-identity would send one for each of
        the clusters that a cold start finds on the queue.
        """
        until, held = self._kept.get(resource, (0.0, None))
        if held and not fresh and asyncio.get_running_loop().time() < until:
            return held
        key, left = (resource, fresh), self._throttled_until - asyncio.get_running_loop().time()
        if left > 0:
            wait = timedelta(seconds=left)
            raise EntraThrottled("the identity endpoint is throttling", retry_after=wait)
        if key not in self._requests:
            self._requests[key] = asyncio.create_task(self._request(*key))
            self._requests[key].add_done_callback(lambda _: self._requests.pop(key))
        try:
            # Shielded: a caller that is cancelled must not cancel the request of the others.
            return await asyncio.wait_for(asyncio.shield(self._requests[key]), remaining(_TIMEOUT))
        except TimeoutError:
            raise EntraUnavailable("the identity endpoint did not respond in time") from None
        except EntraError as e:
            raise e.with_context() from None

    async def _request(self, resource: str, fresh: bool) -> EntraToken:  # noqa: FBT001 - as the key has it
        context = {"resource": resource}
        try:
            async with asyncio.timeout(_TIMEOUT):
                token: object = (await self._get(resource, _NOT_CACHED if fresh else None)).token
        except EntraThrottled as e:
            wait = min(e.retry_after or _THROTTLED, _LONGEST_THROTTLED)
            self._throttled_until = asyncio.get_running_loop().time() + wait.total_seconds()
            raise
        except HttpResponseError as e:
            # Not chained: it quotes the response, which may contain anything.
            response = getattr(e, "response", None)
            status = response.status_code if response is not None else None
            detail = f"{type(e).__name__}: {e.message}"
            if status in {400, 401, 403, 404}:
                raise EntraDenied(detail, context) from None
            alone = status == HTTPStatus.INTERNAL_SERVER_ERROR and await self._gives_another(resource)
            kind = EntraResourceFailed if alone else EntraUnavailable
            raise kind(detail, context) from None
        except (AzureError, *MALFORMED) as e:
            # azure-identity 1.27 raises KeyError for a response without `resource`, and so on.
            raise EntraUnavailable(f"the response of the identity endpoint is malformed: {type(e).__name__}") from None
        if not is_token(token):
            raise EntraUnavailable("the response of the identity endpoint has no token")
        held = EntraToken(token)
        self._kept[resource] = asyncio.get_running_loop().time() + _KEEP, held
        return held

    async def _gives_another(self, resource: str) -> bool:
        """Whether the endpoint gives a token for a resource that every tenant with AKS knows. App Service responds with
        500 to an unknown resource as in an outage (github.com/Azure/azure-sdk-for-net/issues/44685).
        """
        if resource == AKS:
            return False
        try:
            async with asyncio.timeout(_TIMEOUT):
                return bool((await self._get(AKS, _NOT_CACHED)).token)
        except (AzureError, EntraThrottled, TimeoutError, *MALFORMED):
            return False

    async def _get(self, resource: str, claims: str | None) -> AccessToken:
        """Raises EntraThrottled instead of the SDK's own retries: it would sleep for as long as a Retry-After says."""
        options: dict[str, Any] = {"raw_response_hook": _raise_if_throttled}
        return await self.credential.get_token(f"{resource}/.default", claims=claims, **options)

    async def close(self) -> None:
        for request in self._requests.values():
            request.cancel()
        await self.credential.close()


def _raise_if_throttled(response: Any) -> None:
    """Called by the SDK for every response."""
    answer = response.http_response
    if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        raise EntraThrottled("the identity endpoint responds with 429", retry_after=parse_retry_after(answer.headers))


def claims(token: EntraToken, names: Collection[str] = _CLAIMS) -> dict[str, str]:
    """Read claims from one of our own tokens, for messages and handovers. The signature is not checked. Returns an
    empty dict for anything but a token.
    """
    try:
        payload = token.reveal().split(".")[1]
        known = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return {name: str(known[name]) for name in names if name in known}
    except (IndexError, ValueError, TypeError):
        return {}
