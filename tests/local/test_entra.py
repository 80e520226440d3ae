"""The tenant and the endpoint for managed identities: used by azure-identity, and by verifiers of tokens."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from azure.identity.aio import ManagedIdentityCredential

from local.azure.entra import AKS, ARM, Entra, Identity, IdentityEndpoint
from local.clock import Clock
from local.serving import Authority, Server

MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Tenant:
    clock: Clock
    entra: Entra
    identity: Identity
    system: Identity
    endpoint: IdentityEndpoint
    issuer_url: str

    async def token(self, resource: str = ARM, **options: Any) -> str:
        """By a new credential, whose cache is empty."""
        async with ManagedIdentityCredential(retry_total=0, **options) as credential:
            return str((await credential.get_token(f"{resource}/.default")).token)


@pytest.fixture
async def tenant(monkeypatch: pytest.MonkeyPatch, authority: Authority, entra: Entra) -> AsyncIterator[Tenant]:
    clock = Clock()
    entra = entra.with_clock(clock)
    identity, system = entra.add_identity("pullkeeper"), entra.add_identity("system")
    endpoint = IdentityEndpoint(entra, clock, [identity], system_assigned=system)
    application = web.Application()
    application.add_routes(endpoint.routes())
    inside, outside = Server(application, authority=None), Server(entra.application, authority=authority)
    await inside.start()
    await outside.start()
    for name, value in endpoint.environment(inside.url).items():
        monkeypatch.setenv(name, value)
    yield Tenant(clock, entra, identity, system, endpoint, outside.url)
    await outside.stop()
    await inside.stop()


async def test_a_token_verifies_with_the_keys_found_by_discovery(tenant: Tenant) -> None:
    """As an API server with JWT authentication verifies it."""
    token = tenant.entra.token(tenant.identity, AKS)
    async with aiohttp.ClientSession() as session:
        url = f"{tenant.issuer_url}/{tenant.entra.tenant}/.well-known/openid-configuration"
        async with session.get(url) as response:
            configuration = await response.json()
        async with session.get(configuration["jwks_uri"]) as response:
            keys = jwt.PyJWKSet.from_dict(await response.json())
        async with session.get(url.replace(tenant.entra.tenant, "common")) as response:
            other = response.status, (await response.json())["error"]

    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["RS256"], audience=AKS, issuer=configuration["issuer"])

    assert claims["iss"] == f"https://sts.windows.net/{tenant.entra.tenant}/"
    assert claims["sub"] == claims["oid"] == tenant.identity.principal_id
    assert (claims["appid"], claims["tid"]) == (tenant.identity.client_id, tenant.entra.tenant)
    assert claims["exp"] - claims["iat"] == 24 * 3600
    assert other == (400, "invalid_tenant")


async def test_the_endpoint_returns_a_cached_token_until_shortly_before_its_end(tenant: Tenant) -> None:
    """One per identity and resource; `clear_cache` makes it forget them."""
    first = await tenant.token()
    tenant.clock.advance(23 * 60 * MINUTE)
    second = await tenant.token()
    tenant.clock.advance(56 * MINUTE)
    third = await tenant.token()
    tenant.endpoint.clear_cache()
    tenant.clock.advance(MINUTE)
    fourth = await tenant.token()

    assert first == second
    assert len({second, third, fourth, await tenant.token(AKS)}) == 4
    assert datetime.fromtimestamp(tenant.entra.verify(third, ARM)["exp"], UTC) > tenant.clock()
