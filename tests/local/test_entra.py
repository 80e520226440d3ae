"""Entra accepts an assertion only if all of it fits the federated credential; its keys and the identity endpoint."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from local.azure.assertions import Assertions, FederatedCredential
from local.azure.entra import AKS, ARM, EXCHANGE, Entra, Identity, IdentityEndpoint
from local.clock import Clock
from local.serving import Authority, Server

SUBJECT = "system:serviceaccount:deepintshield:deepintshield-sa"


@dataclass(slots=True)
class Issuer:
    """A cluster's issuer: a key, and what it publishes."""

    url: str = ""
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    published_as: str | None = None

    def assertion(
        self, clock: Clock, *, key: Any = None, algorithm: str = "RS256", kid: str = "k", **change: Any
    ) -> str:
        now = clock()
        claims = {"iss": self.url, "sub": SUBJECT, "aud": [EXCHANGE], "nbf": now, "exp": now + timedelta(hours=1)}
        return jwt.encode({**claims, **change}, key or self.key, algorithm, headers={"kid": kid})

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/.well-known/openid-configuration", self._configuration), web.get("/keys", self._keys)]

    async def _configuration(self, _: web.Request) -> web.Response:
        return web.json_response({"issuer": self.published_as or self.url, "jwks_uri": f"{self.url}/keys"})

    async def _keys(self, _: web.Request) -> web.Response:
        key = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return web.json_response({"keys": [{**key, "kid": "k"}]})


@dataclass(slots=True)
class Tenant:
    entra: Entra
    clock: Clock
    identity: Identity
    issuer: Issuer
    issuer_server: Server
    url: str
    session: aiohttp.ClientSession
    assertions: Assertions

    async def ask(self, assertion: str, *, tenant: str | None = None, **change: str) -> tuple[int, dict[str, Any]]:
        form = {
            "grant_type": "client_credentials",
            "client_id": self.identity.client_id,
            "scope": f"{EXCHANGE}/.default",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion,
        }
        url = f"{self.url}/{tenant or self.entra.tenant}/oauth2/v2.0/token"
        async with self.session.post(url, data={**form, **change}) as answer:
            return answer.status, await answer.json()

    async def refusal(self, assertion: str, **change: str) -> tuple[int, str, int]:
        """Status, error and code."""
        status, body = await self.ask(assertion, **change)
        [code] = body["error_codes"]
        assert body["error_description"].startswith(f"AADSTS{code}: ")
        assert assertion.rpartition(".")[0] not in json.dumps(body)
        assert self.assertions.exchanges == 0
        return status, body["error"], code


@pytest.fixture
async def tenant(authority: Authority, entra: Entra) -> AsyncIterator[Tenant]:
    clock, issuer = Clock(), Issuer()
    entra = entra.with_clock(clock)
    identity = entra.add_identity("cluster")
    assertions = Assertions(entra, clock, lambda _: [FederatedCredential(issuer.url, SUBJECT, EXCHANGE)])
    entra.application.add_routes(assertions.routes())
    application = web.Application()
    application.add_routes(issuer.routes())
    servers = Server(entra.application, authority=authority), Server(application, authority=authority)
    for server in servers:
        await server.start()
    issuer.url = servers[1].url
    async with aiohttp.ClientSession() as session:
        yield Tenant(entra, clock, identity, issuer, servers[1], servers[0].url, session, assertions)
    for server in servers:
        await server.stop()


async def test_an_assertion_becomes_a_token_of_the_identity(tenant: Tenant) -> None:
    status, body = await tenant.ask(tenant.issuer.assertion(tenant.clock), scope=f"{ARM}/.default")
    claims = tenant.entra.verify(body["access_token"], ARM)

    assert status == 200
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 3599)
    assert claims["sub"] == claims["oid"] == tenant.identity.principal_id
    assert claims["iss"] == tenant.entra.issuer_v1
    assert tenant.assertions.exchanges == 1


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"sub": "system:serviceaccount:other:deepintshield-sa"}, 700213),
        ({"sub": SUBJECT.title()}, 7002138),
        ({"aud": ["api://other"]}, 700212),
        ({"aud": [EXCHANGE, "api://other"]}, 700212),
        ({"iss": "{issuer}/"}, 700211),
        ({"key": rsa.generate_private_key(65537, 2048)}, 700027),
        ({"key": ec.generate_private_key(ec.SECP256R1()), "algorithm": "ES256"}, 700027),
        ({"kid": "other"}, 7000272),
        ({"exp": 1}, 700024),
    ],
)
async def test_an_assertion_must_match_exactly(tenant: Tenant, claims: dict[str, Any], code: int) -> None:
    if "iss" in claims:
        claims = {"iss": claims["iss"].format(issuer=tenant.issuer.url)}
    refusal = await tenant.refusal(tenant.issuer.assertion(tenant.clock, **claims))
    assert refusal == (401, "invalid_client", code)


@pytest.mark.parametrize("is_running", [True, False])
async def test_the_issuer_must_respond_and_publish_its_own_name(tenant: Tenant, *, is_running: bool) -> None:
    tenant.issuer.published_as = "https://other.example"
    if not is_running:
        await tenant.issuer_server.stop()
    assert await tenant.refusal(tenant.issuer.assertion(tenant.clock)) == (400, "invalid_request", 50166)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"tenant": "00000000-0000-0000-0000-000000000000"}, (400, "invalid_request", 90002)),
        ({"client_id": "unknown"}, (400, "unauthorized_client", 700016)),
        ({"scope": "api://unheard-of/.default"}, (400, "invalid_resource", 500011)),
        ({"client_assertion": "x"}, (400, "invalid_request", 50027)),
    ],
)
async def test_a_wrong_request_is_refused(
    tenant: Tenant, change: dict[str, str], expected: tuple[int, str, int]
) -> None:
    assert expected == await tenant.refusal(tenant.issuer.assertion(tenant.clock), **change)


@pytest.mark.parametrize("change", [{"grant_type": "password"}, {"scope": EXCHANGE}, {"client_assertion_type": ""}])
async def test_what_is_not_played_is_a_501(tenant: Tenant, change: dict[str, str]) -> None:
    with pytest.raises(aiohttp.ContentTypeError, match="501"):
        await tenant.ask(tenant.issuer.assertion(tenant.clock), **change)


async def test_a_token_verifies_with_the_keys_found_by_discovery(tenant: Tenant) -> None:
    """As an API server with JWT authentication verifies it."""
    token = tenant.entra.token(tenant.identity, AKS)
    url = f"{tenant.url}/{tenant.entra.tenant}/.well-known/openid-configuration"
    async with tenant.session.get(url) as response:
        configuration = await response.json()
    async with tenant.session.get(configuration["jwks_uri"]) as response:
        keys = jwt.PyJWKSet.from_dict(await response.json())
    async with tenant.session.get(url.replace(tenant.entra.tenant, "common")) as response:
        other = response.status, (await response.json())["error"]

    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["RS256"], audience=AKS, issuer=configuration["issuer"])

    assert claims["iss"] == f"https://sts.windows.net/{tenant.entra.tenant}/"
    assert claims["sub"] == claims["oid"] == tenant.identity.principal_id
    assert (claims["appid"], claims["tid"]) == (tenant.identity.client_id, tenant.entra.tenant)
    assert claims["exp"] - claims["iat"] == 24 * 3600
    assert other == (400, "invalid_tenant")


async def test_the_identity_endpoint_returns_a_cached_token_until_shortly_before_its_end(tenant: Tenant) -> None:
    """One per identity and resource; `clear_cache` makes it forget them."""
    endpoint = IdentityEndpoint(tenant.entra, tenant.clock, [tenant.identity])
    application = web.Application()
    application.add_routes(endpoint.routes())
    server = Server(application, authority=None)
    await server.start()
    variables = endpoint.environment(server.url)

    async def token(resource: str = ARM) -> str:
        query = {"api-version": "2019-08-01", "resource": resource, "client_id": tenant.identity.client_id}
        headers = {"X-IDENTITY-HEADER": variables["IDENTITY_HEADER"]}
        async with tenant.session.get(variables["IDENTITY_ENDPOINT"], params=query, headers=headers) as response:
            return str((await response.json())["access_token"])

    found = []
    for later in (timedelta(), timedelta(hours=23), timedelta(minutes=56)):
        tenant.clock.advance(later)
        found.append(await token())
    endpoint.clear_cache()
    tenant.clock.advance(timedelta(minutes=1))
    found += [await token(), await token(AKS)]
    await server.stop()
    assert found[0] == found[1]
    assert len(set(found)) == 4
