"""The way to one Google token: an Entra token of the app's identity, its exchange, the impersonation. One try, and
nothing is kept: `pullkeeper.publisher.federation` decides about both.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

from pullkeeper.azure.entra import Entra, claims
from pullkeeper.clouds import PUBLIC
from pullkeeper.deadline import remaining
from pullkeeper.errors import PullkeeperError
from pullkeeper.publisher.hub import Hub
from pullkeeper.tokens import EntraToken, Token


class Chain:
    """The hops to a token of any hub, under one identity."""

    def __init__(self, entra: Entra, clock: Callable[[], datetime], exchange: str = PUBLIC.exchange) -> None:
        """exchange: the resource of the Entra tokens for hubs that name none."""
        self._entra = entra
        self._clock = clock
        self._exchange = exchange

    def resource(self, hub: Hub) -> str:
        """What the Entra token is requested for."""
        return hub.entra_resource or self._exchange

    async def entra_token(self, hub: Hub, *, fresh: bool) -> EntraToken:
        """Return the token that Google gets. fresh: do not take it from a cache. Raises EntraError."""
        return await self._entra.token(self.resource(hub), fresh=fresh)

    async def google_token(self, hub: Hub, subject: EntraToken) -> Token:
        """Exchange the Entra token and impersonate. Raises GoogleError with all names that remedies need, and with the
        address of the call that failed (`url`) as context.
        """
        # Imported when first needed: a refresher imports it once, an instance that serves only HTTP never.
        from pullkeeper.publisher import google  # noqa: PLC0415

        limit = remaining(2 * google.TIMEOUT)
        try:
            return await asyncio.to_thread(google.exchange, hub, subject, self._clock(), limit)
        except PullkeeperError as e:
            about = claims(subject)
            raise e.with_context(
                **hub.credential_config.ids,
                audience=about.get("aud", "<audience>"),
                issuer=about.get("iss", "<issuer>"),
                principal=principal_of(subject),
            ) from None


def principal_of(subject: EntraToken) -> str:
    """The object id of the identity that Google gives the token to."""
    return claims(subject).get("oid", "<object id>")
