"""From the app's identity to a Google token that is proved against the registry: one mint per hub and process."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import stamina

from pullkeeper import telemetry
from pullkeeper.azure.entra import Entra, claims
from pullkeeper.errors import FederationStale, GoogleUnavailable, PullkeeperError, RegistryUnavailable
from pullkeeper.model import Hub
from pullkeeper.publisher import registry
from pullkeeper.tokens import Token

_DEADLINE: Final = timedelta(seconds=60)
"""For the whole chain, tries included. A message's own patience begins where this ends."""


@dataclass(slots=True)
class _Mint:
    """What one hub last gave, good or bad."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    token: Token | None = None
    refusal: PullkeeperError | None = None
    refused_until: datetime | None = None


class Federation:
    """Hands out tokens. Whoever waits for a mint that is under way shares its outcome, also a refusal: 1,000 clusters
    of a broken hub ask Google once a minute, not 1,000 times.
    """

    def __init__(self, entra: Entra, clock: Callable[[], datetime]) -> None:
        self._entra = entra
        self._clock = clock
        self._mints: dict[str, _Mint] = {}

    async def token(self, hub: Hub, *, issued_since: datetime | None = None) -> Token:
        """A token with at least 5/6 of its life left, issued no earlier than `issued_since`.

        Raises EntraError, GoogleError or RegistryDenied.
        """
        mint = self._mints.setdefault(hub.identity, _Mint())
        async with mint.lock:
            now = self._clock()
            held = mint.token
            if held and held.may_be_written(now) and not (issued_since and held.issued_at < issued_since):
                return held
            if mint.refusal and mint.refused_until and now < mint.refused_until:
                raise mint.refusal.within()
            try:
                mint.token, mint.refusal = await self._proved(hub), None
            except PullkeeperError as e:
                # A new object: this one's traceback leads to frames that hold tokens.
                mint.refusal, mint.refused_until = e.within(), self._clock() + hub.life / 60
                raise
            return mint.token

    async def _proved(self, hub: Hub) -> Token:
        try:
            async with asyncio.timeout(_DEADLINE.total_seconds()):
                token = await self._mint(hub)
                warning = await _proof(hub, token)
        except TimeoutError:
            raise GoogleUnavailable(f"no token within {_DEADLINE.total_seconds():.0f} s") from None
        told: dict[str, telemetry.Attribute] = {
            "provider": hub.credential_config.audience,
            "token_expiry": token.expires_at,
        }
        if warning:
            told |= {"category": warning.category, "detail": warning.detail, "remedy": warning.remedy}
        telemetry.emit("token.minted", told, logging.WARNING if warning else logging.INFO)
        return token

    async def _mint(self, hub: Hub) -> Token:
        try:
            return await self._tried(hub, fresh=False)
        except FederationStale:
            # Google calls an Entra token stale that Entra still likes: ask Entra for another one, once.
            return await self._tried(hub, fresh=True)

    async def _tried(self, hub: Hub, *, fresh: bool) -> Token:
        """Up to three tries, with jitter, or when the service asks us to come back."""
        async for attempt in stamina.retry_context(on=_worth_retrying, attempts=3, timeout=_DEADLINE):
            with attempt:
                return await self._once(hub, fresh=fresh)
        raise AssertionError("stamina raises the last error")

    async def _once(self, hub: Hub, *, fresh: bool) -> Token:
        # Imported when first needed: a warm refresher imports it once, a cold HTTP instance never.
        from pullkeeper.publisher import google  # noqa: PLC0415

        subject = await self._entra.token(hub.entra_resource, fresh=fresh)
        try:
            return await asyncio.to_thread(google.exchange, hub, subject, self._clock())
        except PullkeeperError as e:
            about = claims(subject)
            raise e.within(
                **hub.credential_config.ids,
                resource=hub.entra_resource,
                audience=about.get("aud", "<audience>"),
                issuer=about.get("iss", "<issuer>"),
                principal=about.get("oid", "<object id>"),
            ) from None


async def _proof(hub: Hub, token: Token) -> RegistryUnavailable | None:
    try:
        await registry.probe(hub, token)
    except RegistryUnavailable as e:
        return e
    return None


def _worth_retrying(error: Exception) -> bool | timedelta:
    return isinstance(error, PullkeeperError) and error.retryable and error.again(_DEADLINE / 2)
