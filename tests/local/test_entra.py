"""The tenant and the endpoint for managed identities, asked by azure-identity and by whoever verifies tokens."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from azure.core.exceptions import ClientAuthenticationError
from azure.identity.aio import ManagedIdentityCredential

from local.azure.entra import AKS, ARM, Entra, Identity, IdentityEndpoint, Resource
from local.clock import Clock
from local.serving import Authority, Server

MINUTE = timedelta(minutes=1)
OURS = "api://00000000-5eed-4000-8000-000000000001"


@dataclass(frozen=True, slots=True)
class Tenant:
    clock: Clock
    entra: Entra
    identity: Identity
    system: Identity
    endpoint: IdentityEndpoint
    issuer_url: str

    async def token(self, resource: str = ARM, **options: Any) -> str:
        """By a credential that has nothing cached."""
        async with ManagedIdentityCredential(retry_total=0, **options) as credential:
            return str((await credential.get_token(f"{resource}/.default")).token)

    def subject(self, token: str, audience: str = ARM) -> str:
        return str(self.entra.verify(token, audience)["sub"])


@pytest.fixture
async def tenant(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> AsyncIterator[Tenant]:
    clock = Clock()
    entra = Entra(clock)
    identity, system = entra.add_identity("pullkeeper"), entra.add_identity("system")
    entra.add_identity("somebody-else")
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


async def test_tokens_verify_with_the_keys_that_discovery_leads_to(tenant: Tenant) -> None:
    """As an API server with JWT authentication does it."""
    token = tenant.entra.token(tenant.identity, AKS)
    async with aiohttp.ClientSession() as session:
        where = f"{tenant.issuer_url}/{tenant.entra.tenant}/.well-known/openid-configuration"
        async with session.get(where) as answer:
            configuration = await answer.json()
        async with session.get(configuration["jwks_uri"]) as answer:
            keys = jwt.PyJWKSet.from_dict(await answer.json())

    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["RS256"], audience=AKS, issuer=configuration["issuer"])

    assert claims["iss"] == f"https://sts.windows.net/{tenant.entra.tenant}/"
    assert claims["sub"] == claims["oid"] == tenant.identity.principal_id
    assert (claims["appid"], claims["tid"]) == (tenant.identity.client_id, tenant.entra.tenant)
    assert claims["exp"] - claims["iat"] == 24 * 3600


async def test_no_other_tenant_is_served(tenant: Tenant) -> None:
    url = f"{tenant.issuer_url}/common/discovery/keys"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert (answer.status, (await answer.json())["error"]) == (400, "invalid_tenant")


def test_a_resource_with_version_two_tokens_is_named_by_its_id(tenant: Tenant) -> None:
    tenant.entra.resources[OURS] = Resource(version=2, audience="00000000-5eed-4000-8000-000000000001")

    claims = jwt.decode(tenant.entra.token(tenant.identity, OURS), options={"verify_signature": False})

    assert claims["iss"] == f"https://login.microsoftonline.com/{tenant.entra.tenant}/v2.0"
    assert (claims["aud"], claims["ver"]) == ("00000000-5eed-4000-8000-000000000001", "2.0")
    assert claims["azp"] == tenant.identity.client_id


@pytest.mark.parametrize(
    ("later", "leeway", "refusal"),
    [
        (timedelta(), timedelta(), None),
        (10 * MINUTE + timedelta(seconds=2), timedelta(), jwt.ExpiredSignatureError),
        (10 * MINUTE + timedelta(seconds=2), MINUTE, None),
        (12 * MINUTE, MINUTE, jwt.ExpiredSignatureError),
        (-MINUTE, timedelta(), jwt.ImmatureSignatureError),
        (-MINUTE, 2 * MINUTE, None),
    ],
)
def test_times_are_judged_by_the_shared_clock(
    tenant: Tenant, later: timedelta, leeway: timedelta, refusal: type[Exception] | None
) -> None:
    token = tenant.entra.token(tenant.identity, AKS, 10 * MINUTE)
    tenant.clock.advance(later)

    if refusal is None:
        assert tenant.entra.verify(token, AKS, leeway)["sub"] == tenant.identity.principal_id
    else:
        with pytest.raises(refusal):
            tenant.entra.verify(token, AKS, leeway)


def test_tokens_for_others_and_by_others_do_not_verify(tenant: Tenant) -> None:
    stranger = Entra(tenant.clock)
    stranger.tenant = tenant.entra.tenant

    with pytest.raises(jwt.InvalidAudienceError):
        tenant.entra.verify(tenant.entra.token(tenant.identity, ARM), AKS)
    with pytest.raises(jwt.InvalidSignatureError):
        tenant.entra.verify(stranger.token(tenant.identity, AKS), AKS)


async def test_azure_identity_gets_a_token_for_the_identity_it_names(tenant: Tenant) -> None:
    assert tenant.subject(await tenant.token(client_id=tenant.identity.client_id)) == tenant.identity.principal_id


async def test_without_an_id_the_system_assigned_identity_answers(tenant: Tenant) -> None:
    assert tenant.subject(await tenant.token()) == tenant.system.principal_id


async def test_the_expiry_that_is_told_is_the_tokens_own(tenant: Tenant) -> None:
    tenant.endpoint.lifetime = timedelta(hours=3)
    async with ManagedIdentityCredential() as credential:
        given = await credential.get_token(f"{ARM}/.default")

    assert tenant.entra.verify(given.token, ARM)["exp"] == given.expires_on
    assert datetime.fromtimestamp(given.expires_on, UTC) - tenant.clock() > timedelta(hours=2, minutes=59)


async def test_an_identity_that_the_app_does_not_have_is_refused(tenant: Tenant) -> None:
    other = next(one for one in tenant.entra.identities.values() if one.name == "somebody-else")

    with pytest.raises(
        ClientAuthenticationError, match="No User Assigned or Delegated Managed Identity found"
    ) as raised:
        await tenant.token(client_id=other.client_id)

    assert raised.value.status_code == 400


async def test_a_resource_that_the_tenant_does_not_know_is_refused(tenant: Tenant) -> None:
    with pytest.raises(
        ClientAuthenticationError, match=f"AADSTS500011: The resource principal named {OURS} was not found"
    ):
        await tenant.token(OURS)
    tenant.entra.resources[OURS] = Resource()

    assert tenant.subject(await tenant.token(OURS), OURS) == tenant.system.principal_id


async def test_the_endpoint_answers_nobody_without_its_secret(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "guessed")

    with pytest.raises(ClientAuthenticationError) as raised:
        await tenant.token()

    assert raised.value.status_code == 401


async def test_the_endpoint_hands_out_the_token_it_has_until_that_is_nearly_over(tenant: Tenant) -> None:
    """So a credential without a cache can get an old token, and only `forget` or time brings a new one."""
    first = await tenant.token()
    tenant.clock.advance(23 * 60 * MINUTE)
    second = await tenant.token()
    tenant.clock.advance(56 * MINUTE)
    third = await tenant.token()

    assert first == second != third
    assert tenant.endpoint.issued == 2
    tenant.endpoint.clear_cache()
    tenant.clock.advance(MINUTE)
    assert await tenant.token() != third


async def test_tokens_are_kept_by_identity_and_resource(tenant: Tenant) -> None:
    tokens = {
        await tenant.token(resource, **identity)
        for resource in (ARM, AKS)
        for identity in ({}, {"client_id": tenant.identity.client_id})
    }

    assert len(tokens) == tenant.endpoint.issued == 4
