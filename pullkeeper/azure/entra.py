"""Tokens for the app's own identity, from Entra by way of the platform's managed identity endpoint."""

import asyncio
import base64
import json
import logging
from collections.abc import Callable

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from azure.identity import CredentialUnavailableError

from pullkeeper.errors import NONSENSE, EntraDenied, EntraError, EntraUnavailable
from pullkeeper.tokens import EntraToken, is_token

# It quotes whole answers in its warnings, a token included; what has failed is told by us.
logging.getLogger("azure.identity").setLevel(logging.CRITICAL)

AKS = "6dae42f8-4368-4678-94ff-3960e28e3630"
"""The application id of every Entra-integrated AKS API server: public, the same in all tenants."""

ARM = "https://management.azure.com"
"""Azure Resource Manager, under the name that its SDKs ask for."""


class Entra:
    """One credential for the whole process: azure-identity caches tokens per credential object, and the endpoint
    throttles those who ask for each call.
    """

    def __init__(self, create: Callable[[], AsyncTokenCredential]) -> None:
        self.credential = create()
        self._asking: dict[tuple[str, bool], asyncio.Task[EntraToken]] = {}

    async def token(self, resource: str, *, fresh: bool = False) -> EntraToken:
        """A token for the resource; `fresh` for one that is not from the cache. Raises EntraUnavailable or EntraDenied.

        Whoever asks while the endpoint is being asked for the same shares the answer: azure-identity would ask once
        for each of the clusters that a cold start finds on the queue.
        """
        question = resource, fresh
        if question not in self._asking:
            self._asking[question] = asyncio.create_task(self._ask(*question))
            self._asking[question].add_done_callback(lambda _: self._asking.pop(question))
        try:
            # Shielded: one who gives up must not take the answer away from the others.
            return await asyncio.shield(self._asking[question])
        except EntraError as e:
            raise e.within() from None

    async def _ask(self, resource: str, fresh: bool) -> EntraToken:  # noqa: FBT001 - as the question has it
        context = {"resource": resource}
        # A managed identity has no use for claims, but what is asked for with some is never answered from the cache. A
        # new credential instead of this one would leave those who are in the middle of a call without theirs.
        past_the_cache = "{}" if fresh else None
        try:
            token: object = (await self.credential.get_token(f"{resource}/.default", claims=past_the_cache)).token
        except (ClientAuthenticationError, CredentialUnavailableError, HttpResponseError) as e:
            # The reply is quoted in these, and nobody knows what a reply may hold: not chained.
            answer = getattr(e, "response", None)
            refused = answer is not None and answer.status_code in {400, 401, 403, 404}
            kind = EntraDenied if refused else EntraUnavailable
            raise kind(f"{type(e).__name__}: {e.message}", context) from None
        except (AzureError, *NONSENSE) as e:
            # In azure-identity 1.27, a reply without `resource` is a KeyError, and so on.
            raise EntraUnavailable(
                f"the identity endpoint's answer made no sense: {type(e).__name__}", context
            ) from None
        if not is_token(token):
            raise EntraUnavailable("the identity endpoint's answer held no token", context)
        return EntraToken(token)

    async def close(self) -> None:
        for asking in self._asking.values():
            asking.cancel()
        await self.credential.close()


def claims(token: EntraToken) -> dict[str, str]:
    """Who a token of our own is about (`oid`, `iss`, `aud`, `tid`, and `appid` or `azp`), for messages and handovers.
    Its signature is its audience's business.
    """
    try:
        payload = token.reveal().split(".")[1]
        known = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return {name: str(known[name]) for name in ("oid", "iss", "aud", "tid", "appid", "azp") if name in known}
    except (IndexError, ValueError, TypeError):
        return {}
