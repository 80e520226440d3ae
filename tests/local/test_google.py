"""Google's token services: what they issue, and what they refuse with which error."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import jwt
import pytest

from local.azure.entra import Entra, Identity, Resource
from local.clock import Clock
from local.google.provider import Provider
from local.google.token_services import CLOUD_SCOPE, IAM_SCOPE, READ_SCOPE, Google, ServiceAccount
from local.serving import Authority, Server

POOL = "projects/4711/locations/global/workloadIdentityPools/deepint-azure-pool"
AUDIENCE = f"//iam.googleapis.com/{POOL}/providers/deepint-azure-provider"
EMAIL = "image-pull@deepintshield.iam.gserviceaccount.com"
OURS = "api://00000000-5eed-4000-8000-000000000001"
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Publisher:
    """A provider that trusts one identity, and a service account bound to it."""

    clock: Clock
    entra: Entra
    identity: Identity
    google: Google
    provider: Provider
    account: ServiceAccount
    url: str
    session: aiohttp.ClientSession

    def subject_token(self, life: timedelta = HOUR, **claims: Any) -> str:
        """A token signed by the tenant. claims: replaced; None removes one."""
        token = self.entra.token(self.identity, OURS, life)
        if not claims:
            return token
        changed = {**jwt.decode(token, options={"verify_signature": False}), **claims}
        kept = {name: value for name, value in changed.items() if value is not None}
        return jwt.encode(kept, self.entra._key, "RS256", headers={"kid": self.entra._key_id})

    async def exchange(self, token: str | None = None, **fields: str) -> tuple[int, dict[str, Any]]:
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "audience": AUDIENCE,
            "scope": IAM_SCOPE,
            "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "subject_token": self.subject_token() if token is None else token,
            **fields,
        }
        async with self.session.post(f"{self.url}/v1/token", data=form) as response:
            return response.status, await response.json()

    async def impersonate(
        self, federated: str, body: Any = None, *, email: str = EMAIL, seconds: int = 3600
    ) -> tuple[int, dict[str, Any]]:
        url = f"{self.url}/v1/projects/-/serviceAccounts/{email}:generateAccessToken"
        sent = {"delegates": None, "scope": [READ_SCOPE], "lifetime": f"{seconds}s"} if body is None else body
        data = sent if isinstance(sent, str) else json.dumps(sent)
        async with self.session.post(url, data=data, headers={"Authorization": f"Bearer {federated}"}) as response:
            return response.status, await response.json()

    async def federated(self, **fields: str) -> str:
        return str((await self.exchange(**fields))[1]["access_token"])


@pytest.fixture
async def publisher(authority: Authority, entra: Entra) -> AsyncIterator[Publisher]:
    clock = Clock()
    entra = entra.with_clock(clock)
    entra.resources[OURS] = Resource()
    identity = entra.add_identity("pullkeeper")
    google = Google(entra, clock)
    provider = google.add_provider(
        POOL,
        "deepint-azure-provider",
        entra.issuer_v1,
        [OURS],
        condition=lambda claims: claims.get("sub") == identity.principal_id,
    )
    account = google.add_service_account(EMAIL)
    google.bind(EMAIL, f"principal://iam.googleapis.com/{POOL}/subject/{identity.principal_id}")
    server = Server(google.application, authority=authority)
    await server.start()
    async with aiohttp.ClientSession() as session:
        yield Publisher(clock, entra, identity, google, provider, account, server.url, session)
    await server.stop()


async def test_impersonation_gives_an_opaque_token_of_the_service_account(publisher: Publisher) -> None:
    _, answer = await publisher.impersonate(await publisher.federated())

    token = answer["accessToken"]
    issued = publisher.google.lookup(token)
    assert issued is not None
    assert (issued.member, issued.scopes) == (f"serviceAccount:{EMAIL}", frozenset({READ_SCOPE}))
    assert datetime.fromisoformat(answer["expireTime"]) == issued.expires_at
    assert (publisher.google.exchanges, publisher.google.impersonations) == (1, 1)
    assert token.startswith("ya29.")
    assert "." not in token[7:]
    publisher.google.revoke_all()
    assert publisher.google.lookup(token) is None


async def test_a_federated_token_is_the_principal_with_the_scope_asked_for(publisher: Publisher) -> None:
    _, answer = await publisher.exchange(scope=CLOUD_SCOPE)

    issued = publisher.google.lookup(answer["access_token"])
    assert issued is not None
    principal = f"principal://iam.googleapis.com/{POOL}/subject/{publisher.identity.principal_id}"
    assert (issued.member, issued.scopes) == (principal, frozenset({CLOUD_SCOPE}))
    assert answer["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    assert answer["token_type"] == "Bearer"


@pytest.mark.parametrize(("life", "most"), [(24 * HOUR, 3600), (600 * SECOND, 600), (2 * SECOND, None)])
async def test_a_federated_token_lives_an_hour_or_as_long_as_its_subject(
    publisher: Publisher, life: timedelta, most: int | None
) -> None:
    """If the subject token is about to expire, the answer has no expires_in."""
    status, answer = await publisher.exchange(publisher.subject_token(life))

    assert status == 200
    if most is None:
        assert "expires_in" not in answer
    else:
        assert most - 3 <= answer["expires_in"] <= most


async def test_tokens_end_by_the_shared_clock(publisher: Publisher) -> None:
    federated = await publisher.federated()
    _, answer = await publisher.impersonate(federated, seconds=1800)
    publisher.clock.advance(HOUR / 2)

    assert publisher.google.lookup(answer["accessToken"]) is None
    assert (await publisher.impersonate(federated))[0] == 200
    publisher.clock.advance(HOUR / 2)
    status, answer = await publisher.impersonate(federated)
    assert (status, answer["error"]["status"]) == (401, "UNAUTHENTICATED")


INVALID_PROVIDER = (
    'The target service indicated by the "audience" parameters is invalid. This might either be because the pool or '
    "provider is disabled or deleted or because it doesn't exist."
)


@pytest.mark.parametrize(
    ("fields", "error", "description"),
    [
        ({"audience": f"{AUDIENCE}2"}, "invalid_target", INVALID_PROVIDER),
        ({"audience": AUDIENCE.replace("4711", "4712")}, "invalid_target", INVALID_PROVIDER),
        ({"audience": AUDIENCE.replace("4711", "deepintshield")}, "invalid_request", 'Invalid value for "audience".'),
        ({"grant_type": "other"}, "invalid_request", 'Invalid value for "grant_type".'),
        ({"requested_token_type": "other"}, "invalid_request", 'Invalid value for "requested_token_type".'),
        ({"subject_token_type": "other"}, "invalid_request", 'Invalid value for "subject_token_type".'),
        ({"scope": "other"}, "invalid_scope", "Some requested scopes were invalid."),
    ],
)
async def test_an_exchange_needs_a_valid_form(
    publisher: Publisher, fields: Mapping[str, str], error: str, description: str
) -> None:
    status, answer = await publisher.exchange(**fields)

    assert (status, answer["error"]) == (400, error)
    assert answer["error_description"].startswith(description)


@pytest.mark.parametrize(
    ("token", "error", "description"),
    [
        ("not a JWT", "invalid_grant", "Unable to parse the ID Token."),
        (
            "other issuer",
            "invalid_grant",
            "The issuer in ID Token {v2} does not match the expected one in config: {v1}",
        ),
        ("other audience", "invalid_grant", "The audience in ID Token [api://x] does not match the expected audience."),
        ("two other audiences", "invalid_grant", "The audience in ID Token [a, b] does not match"),
        ("other identity", "unauthorized_client", "The given credential is rejected by the attribute condition."),
        ("no subject", "invalid_grant", "Could not obtain a value for google.subject"),
        ("no iat", "invalid_grant", "ID Token issued at None is stale to sign-in."),
        ("no exp", "invalid_grant", "ID Token issued at "),
        ("expired 65 s ago", "invalid_grant", "ID Token issued at "),
        ("issued in 65 s", "invalid_grant", "ID Token issued at "),
        ("changed", "invalid_grant", "Unable to verify the ID Token signature."),
        ("unsigned", "invalid_grant", "Unable to verify the ID Token signature."),
        ("unknown key", "invalid_grant", "Error connecting to the given credential's issuer."),
    ],
)
async def test_an_exchange_needs_a_valid_subject_token(
    publisher: Publisher, token: str, error: str, description: str
) -> None:
    now, entra = int(publisher.clock().timestamp()), publisher.entra
    head, _, signature = publisher.subject_token().split(".")
    claims = jwt.decode(publisher.subject_token(), options={"verify_signature": False})
    stranger = Entra(publisher.clock)
    stranger.tenant = entra.tenant
    tokens = {
        "not a JWT": "{}",
        "other issuer": publisher.subject_token(iss=entra.issuer_v2),
        "other audience": publisher.subject_token(aud="api://x"),
        "two other audiences": publisher.subject_token(aud=["a", "b"]),
        "other identity": entra.token(entra.add_identity("other"), OURS),
        "no subject": publisher.subject_token(sub=None),
        "no iat": publisher.subject_token(iat=None),
        "no exp": publisher.subject_token(exp=None),
        "expired 65 s ago": publisher.subject_token(exp=now - 65),
        "issued in 65 s": publisher.subject_token(iat=now + 67, nbf=None),
        "changed": f"{head}.{publisher.subject_token(exp=now + 172800).split('.')[1]}.{signature}",
        "unsigned": jwt.encode(claims, "", "none", headers={"kid": entra._key_id}),
        "unknown key": stranger.token(publisher.identity, OURS),
    }
    status, answer = await publisher.exchange(tokens[token])

    assert (status, answer["error"]) == (400, error)
    assert answer["error_description"].startswith(description.format(v1=entra.issuer_v1, v2=entra.issuer_v2))


async def test_a_subject_has_127_bytes_at_most(publisher: Publisher) -> None:
    publisher.provider.condition = lambda _: True

    status, _ = await publisher.exchange(publisher.subject_token(sub="s" * 127))
    refused, answer = await publisher.exchange(publisher.subject_token(sub="s" * 128))

    assert (status, refused) == (200, 400)
    assert answer["error"] == "invalid_request"
    assert answer["error_description"].startswith("The size of mapped attribute google.subject exceeds the 127 bytes ")


async def test_clocks_may_differ_by_a_minute(publisher: Publisher) -> None:
    now = int(publisher.clock().timestamp())

    for token in (publisher.subject_token(exp=now - 55), publisher.subject_token(iat=now + 55, nbf=None)):
        assert (await publisher.exchange(token))[0] == 200


async def test_a_disabled_provider_stops_exchanges_but_not_issued_tokens(publisher: Publisher) -> None:
    federated = await publisher.federated()
    publisher.provider.disabled = True

    assert (await publisher.exchange())[1] == {"error": "invalid_target", "error_description": INVALID_PROVIDER}
    assert (await publisher.impersonate(federated))[0] == 200


async def test_a_provider_may_trust_another_issuer_with_its_own_keys(publisher: Publisher) -> None:
    """Such as a cluster's."""
    cluster = Entra(publisher.clock)
    publisher.google.add_provider(POOL, "cluster", cluster.issuer_v1, [OURS], keys=lambda: cluster.jwks)

    status, _ = await publisher.exchange(
        cluster.token(publisher.identity, OURS), audience=AUDIENCE.replace("deepint-azure-provider", "cluster")
    )

    assert status == 200


async def test_without_a_binding_impersonation_is_denied(publisher: Publisher) -> None:
    publisher.account.users.clear()

    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "IAM_PERMISSION_DENIED",
        "domain": "iam.googleapis.com",
        "metadata": {"permission": "iam.serviceAccounts.getAccessToken"},
    }
    assert await publisher.impersonate(await publisher.federated()) == (
        403,
        {
            "error": {
                "code": 403,
                "message": "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
                "status": "PERMISSION_DENIED",
                "details": [info],
            }
        },
    )


@pytest.mark.parametrize("service", ["sts.googleapis.com", "iamcredentials.googleapis.com"])
async def test_a_disabled_service_is_named_with_its_project(publisher: Publisher, service: str) -> None:
    federated = await publisher.federated()
    publisher.google.disabled.add(service)

    sts = service.startswith("sts")
    status, answer = await (publisher.exchange() if sts else publisher.impersonate(federated))

    assert (status, answer["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert " has not been used in project 4711 before or it is disabled. " in answer["error"]["message"]
    info = answer["error"]["details"][0]
    assert (info["reason"], info["metadata"]["service"], info["metadata"]["consumer"]) == (
        "SERVICE_DISABLED",
        service,
        "projects/4711",
    )


@pytest.mark.parametrize("service", ["sts.googleapis.com", "iamcredentials.googleapis.com"])
async def test_a_perimeter_refuses_with_an_identifier_for_its_audit_log(publisher: Publisher, service: str) -> None:
    federated = await publisher.federated()
    publisher.google.protected.add(service)

    sts = service.startswith("sts")
    status, answer = await (publisher.exchange() if sts else publisher.impersonate(federated))

    violation, info = answer["error"]["details"]
    identifier = violation["violations"][0]["description"]
    assert (status, answer["error"]["message"]) == (
        403,
        f"Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: {identifier}",
    )
    assert (info["reason"], info["metadata"]["service"]) == ("SECURITY_POLICY_VIOLATED", service)


async def test_a_missing_account_is_named(publisher: Publisher) -> None:
    email = "missing@deepintshield.iam.gserviceaccount.com"

    assert (await publisher.impersonate(await publisher.federated(), email=email))[1]["error"] == {
        "code": 404,
        "message": f"Not found; Gaia id not found for email {email}",
        "status": "NOT_FOUND",
    }


@pytest.mark.parametrize(
    ("long_lifetimes", "seconds", "accepted"),
    [(False, 3600, True), (False, 3601, False), (True, 12 * 3600, True), (True, 12 * 3600 + 1, False)],
)
async def test_more_than_an_hour_needs_an_organization_policy(
    publisher: Publisher, *, long_lifetimes: bool, seconds: int, accepted: bool
) -> None:
    publisher.account.long_lifetimes = long_lifetimes

    status, answer = await publisher.impersonate(await publisher.federated(), seconds=seconds)

    assert (status == 200) is accepted
    if accepted:
        left = datetime.fromisoformat(answer["expireTime"]) - publisher.clock()
        assert timedelta(seconds=seconds - 10) <= left <= timedelta(seconds=seconds)
    else:
        assert "allowServiceAccountCredentialLifetimeExtension" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("token", "status", "code", "reason"),
    [
        ("none", 401, "UNAUTHENTICATED", None),
        ("guessed", 401, "UNAUTHENTICATED", None),
        ("read-only", 403, "PERMISSION_DENIED", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"),
        ("of the account itself", 403, "PERMISSION_DENIED", "IAM_PERMISSION_DENIED"),
    ],
)
async def test_impersonation_needs_a_federated_token_with_a_scope(
    publisher: Publisher, token: str, status: int, code: str, reason: str | None
) -> None:
    _, account = await publisher.impersonate(await publisher.federated(), {"scope": [CLOUD_SCOPE]})
    tokens = {
        "none": "",
        "guessed": "ya29.d.guessed",
        "read-only": await publisher.federated(scope=READ_SCOPE),
        "of the account itself": account["accessToken"],
    }
    actual, answer = await publisher.impersonate(tokens[token])

    assert (actual, answer["error"]["status"]) == (status, code)
    assert [one["reason"] for one in answer["error"].get("details", [])] == ([reason] if reason else [])


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        {},
        {"scope": []},
        {"scope": READ_SCOPE},
        {"scope": ["everything"]},
        {"scope": [READ_SCOPE], "lifetime": 3600},
        {"scope": [READ_SCOPE], "lifetime": "0s"},
        {"scope": [READ_SCOPE], "lifetime": "-1s"},
        {"scope": [READ_SCOPE], "audience": "x"},
    ],
    ids=json.dumps,
)
async def test_an_invalid_impersonation_is_an_invalid_argument(publisher: Publisher, body: Any) -> None:
    status, answer = await publisher.impersonate(await publisher.federated(), body)

    assert (status, answer["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert publisher.google.impersonations == 0


async def test_the_default_lifetime_is_an_hour(publisher: Publisher) -> None:
    _, answer = await publisher.impersonate(await publisher.federated(), {"scope": [READ_SCOPE]})

    left = datetime.fromisoformat(answer["expireTime"]) - datetime.now(UTC)
    assert HOUR - 5 * SECOND <= left <= HOUR
    assert "." not in answer["expireTime"]


async def test_what_is_not_played_is_a_501(publisher: Publisher) -> None:
    federated = await publisher.federated()
    delegated = {"scope": [READ_SCOPE], "delegates": ["projects/-/serviceAccounts/other@p.iam.gserviceaccount.com"]}

    assert (await publisher.impersonate(federated, delegated))[0] == 501
    url = f"{publisher.url}/v1/projects/-/serviceAccounts/{EMAIL}:signJwt"
    async with publisher.session.post(url, json={}, headers={"Authorization": f"Bearer {federated}"}) as response:
        assert response.status == 501
