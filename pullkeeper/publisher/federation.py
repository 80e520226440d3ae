"""Google tokens for hubs: minted from the app's identity, probed against the registry, cached per hub and process."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from pullkeeper import telemetry
from pullkeeper.azure.entra import Entra, claims
from pullkeeper.deadline import has_passed, remaining
from pullkeeper.errors import (
    FederationStale,
    GoogleUnavailable,
    ProbeImageMissing,
    PullkeeperError,
    RegistryError,
    RegistryUnavailable,
)
from pullkeeper.publisher import registry
from pullkeeper.publisher.hub import Hub
from pullkeeper.retries import attempts
from pullkeeper.tokens import Token

_DEADLINE: Final = timedelta(seconds=60)
"""For the whole chain of Entra, Google and registry, with its retries."""

_EVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class _Mint:
    """The last mint of one hub: a token, or a refusal."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    token: Token | None = None
    refusal: PullkeeperError | None = None
    refused_until: datetime | None = None

    def usable(self, now: datetime, issued_since: datetime | None) -> Token | None:
        """Return the held token if it may be written and is not older than that."""
        held = self.token
        return held if held and held.may_be_written(now) and held.issued_at >= (issued_since or _EVER) else None


class Federation:
    """One mint at a time per hub. Callers that wait for a mint share its outcome, a refusal too: 1,000 clusters of a
    broken hub cost one call to Google a minute, not 1,000.
    """

    def __init__(self, entra: Entra, clock: Callable[[], datetime]) -> None:
        self._entra = entra
        self._clock = clock
        self._mints: dict[str, _Mint] = {}

    async def token(self, hub: Hub, *, issued_since: datetime | None = None) -> Token:
        """Return a token with at least 11/12 of its life left, issued no earlier than `issued_since`. While no new one
        can be minted, the one that is held serves until 5/6 of its life are left.

        Raises EntraError, GoogleError or RegistryDenied.
        """
        mint = self._mints.setdefault(hub.identity, _Mint())
        if (held := mint.usable(self._clock(), issued_since)) and held.is_new(self._clock()):
            return held
        limit = remaining(2 * _DEADLINE.total_seconds())
        try:
            # The mint of another caller, and then our own.
            async with asyncio.timeout(limit):
                return await self._shared_token(hub, mint, issued_since)
        except TimeoutError:
            raise GoogleUnavailable(f"no token within {limit:.0f} s") from None

    async def _shared_token(self, hub: Hub, mint: _Mint, issued_since: datetime | None) -> Token:
        async with mint.lock:
            now = self._clock()
            usable = mint.usable(now, issued_since)
            if usable and usable.is_new(now):
                return usable
            if mint.refusal and mint.refused_until and now < mint.refused_until:
                if usable:
                    return usable
                raise mint.refusal.with_context()
            try:
                mint.token, mint.refusal = await self._mint_and_probe(hub), None
            except PullkeeperError as e:
                if not has_passed():  # else this caller had too little time, which is no news for the next
                    # A new object, because this one's traceback leads to frames that hold tokens.
                    mint.refusal, mint.refused_until = e.with_context(), self._clock() + hub.life / 60
                if usable:
                    return usable
                raise
            return mint.token

    async def _mint_and_probe(self, hub: Hub) -> Token:
        try:
            async with asyncio.timeout(remaining(_DEADLINE.total_seconds())):
                token, principal = await self._mint(hub)
                warning = await _probe(hub, token, principal)
        except TimeoutError:
            raise GoogleUnavailable(f"no token within {_DEADLINE.total_seconds():.0f} s") from None
        event: dict[str, telemetry.Attribute] = {
            "provider": hub.credential_config.audience,
            "token_expiry": token.expires_at,
        }
        if warning:
            event |= {"category": warning.category, "detail": warning.detail, "remedy": warning.remedy}
        telemetry.emit("token.minted", event, logging.WARNING if warning else logging.INFO)
        return token

    async def _mint(self, hub: Hub) -> tuple[Token, str]:
        """Return the token, and the object id of the identity that Google gave it to."""
        try:
            return await self._mint_with_retries(hub, fresh=False)
        except FederationStale:
            # Google may call an Entra token stale that Entra still serves from its cache: get a fresh one, once.
            return await self._mint_with_retries(hub, fresh=True)

    async def _mint_with_retries(self, hub: Hub, *, fresh: bool) -> tuple[Token, str]:
        async for attempt in attempts(3, within=_DEADLINE, when=lambda failure: failure.retryable):
            with attempt:
                return await self._mint_once(hub, fresh=fresh)
        raise AssertionError("stamina raises the last error")

    async def _mint_once(self, hub: Hub, *, fresh: bool) -> tuple[Token, str]:
        # Imported when first needed: a refresher imports it once, an instance that serves only HTTP never.
        from pullkeeper.publisher import google  # noqa: PLC0415

        subject = await self._entra.token(hub.entra_resource, fresh=fresh)
        about = claims(subject)
        principal = about.get("oid", "<object id>")
        try:
            token = await asyncio.to_thread(google.exchange, hub, subject, self._clock(), remaining(2 * google.TIMEOUT))
        except PullkeeperError as e:
            raise e.with_context(
                **hub.credential_config.ids,
                resource=hub.entra_resource,
                audience=about.get("aud", "<audience>"),
                issuer=about.get("iss", "<issuer>"),
                principal=principal,
            ) from None
        return token, principal


async def _probe(hub: Hub, token: Token, principal: str) -> RegistryError | None:
    """Prove the token. Returns a warning if the registry could not be asked, or grants a pull of an image that is gone:
    a publisher's clean-up must not let every secret expire.
    """
    try:
        await registry.probe(hub, token, principal)
    except (RegistryUnavailable, ProbeImageMissing) as e:
        return e
    return None
