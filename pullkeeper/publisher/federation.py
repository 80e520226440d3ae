"""Google tokens for hubs: minted from the app's identity, probed against the registry, cached per hub and process."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from pullkeeper import telemetry
from pullkeeper.azure.entra import Entra
from pullkeeper.clouds import PUBLIC
from pullkeeper.deadline import remaining
from pullkeeper.errors import (
    FederationStale,
    GoogleUnavailable,
    ProbeImageMissing,
    PullkeeperError,
    RegistryDenied,
    RegistryError,
    RegistryUnavailable,
)
from pullkeeper.mints import MintRecord
from pullkeeper.publisher import registry
from pullkeeper.publisher.chain import Chain, principal_of
from pullkeeper.publisher.hub import Hub
from pullkeeper.retries import attempts
from pullkeeper.tokens import Token

_DEADLINE: Final = timedelta(seconds=60)
"""For the whole chain of Entra, Google and registry, with its retries."""

_EVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class _Mint:
    """The last mint of one hub: a token, or a refusal.

    probed_at: when the token was last probed and not refused. revoked_after: the same of a token that has been refused
    since, until the fleet gets another. newer_than: the token was minted after the one with this time, whatever its own
    time says: another instance's clock may be ahead.
    """

    hub: Hub
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    token: Token | None = None
    probed_at: datetime = _EVER
    revoked_after: datetime | None = None
    newer_than: datetime = _EVER
    refusal: PullkeeperError | None = None
    refused_until: datetime = _EVER

    def usable(self, now: datetime, issued_since: datetime | None) -> Token | None:
        """Return the held token if it may be written and is not older than that."""
        held = self.token
        if held is None or max(held.issued_at, self.newer_than) < (issued_since or _EVER):
            return None
        return held if held.may_be_written(now) else None

    def was_probed(self, now: datetime, probed_since: datetime | None) -> bool:
        """Whether the held token was probed in the last 1/15 of its life, so that every tick of the timer probes it."""
        earliest = now - self.token.life / 15 if self.token else now
        return self.probed_at >= max(probed_since or _EVER, earliest)


ReplaceRevoked = Callable[[str, datetime], Awaitable[int]]
"""Refreshes the fleet where that was not done since a token of the hub (by its identity) was last known to be good.
Returns the number of messages that it sent."""

Record = Callable[[str, MintRecord], None]
"""Writes down how a mint of a hub (by its identity) went. Must return at once."""


class Federation:
    """One mint at a time per hub. Callers that wait for a mint share its outcome, a refusal too: 1,000 clusters of a
    broken hub cost one call to Google a minute, not 1,000.
    """

    def __init__(
        self,
        entra: Entra,
        clock: Callable[[], datetime],
        replace_revoked: ReplaceRevoked,
        record: Record,
        exchange: str = PUBLIC.exchange,
    ) -> None:
        """exchange: the resource of the Entra tokens for hubs that name none."""
        self._chain = Chain(entra, clock, exchange)
        self._clock = clock
        self._replace_revoked = replace_revoked
        self._record = record
        self._mints: dict[str, _Mint] = {}

    async def token(
        self, hub: Hub, *, issued_since: datetime | None = None, probed_since: datetime | None = None
    ) -> Token:
        """Return a token with at least 11/12 of its life left, issued no earlier than `issued_since`, and probed no
        earlier than `probed_since`. While no new one can be minted, the one that is held serves until 5/6 of its life
        are left. One that was revoked is replaced, in the whole fleet.

        Raises EntraError, GoogleError or RegistryDenied.
        """
        mint = self._mints.setdefault(hub.identity, _Mint(hub))
        # Before the lock, whose turns and time-out would cost a refresh a third more CPU (the benchmark cpu_vs_floor).
        now = self._clock()
        held = mint.usable(now, issued_since)
        if held and held.is_new(now) and mint.was_probed(now, probed_since):
            return held
        limit = remaining(2 * _DEADLINE.total_seconds())
        try:
            # The mint of another caller, and then our own.
            async with asyncio.timeout(limit):
                token = await self._shared_token(mint, issued_since, probed_since)
        except TimeoutError:
            raise GoogleUnavailable(f"no token within {limit:.0f} s") from None
        await self._replace_where_revoked(mint)
        return token

    async def probe_held(self) -> None:
        """Probe the tokens that this process holds, and replace those that were revoked. The timer calls it, because
        hours may pass until a small fleet needs a token. Raises nothing: a failure shows where a token is needed.
        """
        await asyncio.gather(*(self._probe_held(mint) for mint in list(self._mints.values())))

    async def _probe_held(self, mint: _Mint) -> None:
        async with mint.lock:
            await self._drop_if_revoked(mint, None)
        if mint.revoked_after:
            with suppress(PullkeeperError):
                await self.token(mint.hub)

    async def _shared_token(self, mint: _Mint, issued_since: datetime | None, probed_since: datetime | None) -> Token:
        async with mint.lock:
            await self._drop_if_revoked(mint, probed_since)
            now = self._clock()
            usable = mint.usable(now, issued_since)
            if usable and usable.is_new(now):
                return usable
            if mint.refusal and now < mint.refused_until:
                if usable:
                    return usable
                raise mint.refusal.with_context()
            try:
                mint.token, mint.refusal = await self._mint_and_probe(mint.hub), None
                mint.probed_at, mint.newer_than = self._clock(), max(mint.newer_than, issued_since or _EVER)
            except PullkeeperError as e:
                # A new object, because this one's traceback leads to frames that hold tokens.
                now = self._clock()
                mint.refusal, mint.refused_until = e.with_context(), now + mint.hub.life / 60
                self._record(mint.hub.identity, MintRecord.of_failure(now, e))
                if usable:
                    return usable
                raise
            return mint.token

    async def _drop_if_revoked(self, mint: _Mint, probed_since: datetime | None) -> None:
        """Probe the held token if that is due."""
        now, held = self._clock(), mint.token
        if not held or now >= held.expires_at:
            return
        if mint.was_probed(now, probed_since):
            return
        try:
            await _probe(mint.hub, held, "<object id>")  # of a remedy that is not reported
            mint.probed_at = now
        except RegistryDenied:
            mint.token, mint.revoked_after = None, mint.probed_at

    async def _replace_where_revoked(self, mint: _Mint) -> None:
        """Refresh the fleet. Where the registry refuses new tokens too, none was revoked, and this is not reached."""
        since, mint.revoked_after = mint.revoked_after, None
        if since is None or self._clock() >= since + mint.hub.life:
            return
        event: dict[str, telemetry.Attribute] = {"provider": mint.hub.credential_config.audience, "accepted_at": since}
        try:
            event["queued"] = await self._replace_revoked(mint.hub.identity, since)
        except PullkeeperError as e:
            event |= {"category": e.category, "detail": e.detail, "remedy": e.remedy}
        telemetry.emit("token.revoked", event, logging.WARNING)

    async def _mint_and_probe(self, hub: Hub) -> Token:
        began = time.monotonic()
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
        seconds = time.monotonic() - began
        self._record(hub.identity, MintRecord.of_mint(self._clock(), token.expires_at, seconds, warning))
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
        subject = await self._chain.entra_token(hub, fresh=fresh)
        return await self._chain.google_token(hub, subject), principal_of(subject)


async def _probe(hub: Hub, token: Token, principal: str) -> RegistryError | None:
    """Prove the token. Returns a warning if the registry could not be asked, or grants a pull of an image that is gone:
    a publisher's clean-up must not let every secret expire.
    """
    try:
        await registry.probe(hub, token, principal)
    except (RegistryUnavailable, ProbeImageMissing) as e:
        return e
    return None
