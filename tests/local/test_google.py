"""Google's token services, asked by google-auth and, where that would never ask so, by hand."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import google.auth.transport.requests
import jwt
import pytest
import requests
from google.auth import identity_pool
from google.auth.exceptions import OAuthError, RefreshError

from local.azure.entra import Entra, Identity, Resource
from local.clock import Clock
from local.google.token_services import CLOUD_SCOPE, READ_SCOPE, Google, Provider, ServiceAccount
from local.serving import Authority, Server

POOL = "projects/4711/locations/global/workloadIdentityPools/deepint-azure-pool"
AUDIENCE = f"//iam.googleapis.com/{POOL}/providers/deepint-azure-provider"
EMAIL = "image-pull@deepintshield.iam.gserviceaccount.com"
OURS = "api://00000000-5eed-4000-8000-000000000001"
IAM_SCOPE = "https://www.googleapis.com/auth/iam"
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Publisher:
    """The publisher's side: one provider that trusts one identity, one account bound to it."""

    clock: Clock
    entra: Entra
    identity: Identity
    google: Google
    provider: Provider
    account: ServiceAccount
    url: str
    session: aiohttp.ClientSession

    @property
    def principal(self) -> str:
        return f"principal://iam.googleapis.com/{POOL}/subject/{self.identity.principal_id}"

    def subject_token(self, life: timedelta = HOUR) -> str:
        return self.entra.token(self.identity, OURS, life)

    async def mint(self, **options: Any) -> tuple[str, datetime]:
        """As the app does it: google-auth exchanges and impersonates. The token and its expiry."""
        email = options.pop("email", EMAIL)
        credentials = identity_pool.Credentials(
            audience=AUDIENCE,
            subject_token_type="urn:ietf:params:oauth:token-type:jwt",
            token_url=f"{self.url}/v1/token",
            subject_token_supplier=Supplier(options.pop("token", None) or self.subject_token()),
            service_account_impersonation_url=f"{self.url}/v1/projects/-/serviceAccounts/{email}:generateAccessToken",
            service_account_impersonation_options={"token_lifetime_seconds": options.pop("seconds", 3600)},
            scopes=[READ_SCOPE],
        )
        with requests.Session() as session:
            request = google.auth.transport.requests.Request(session)
            await asyncio.to_thread(credentials.refresh, request)
        assert isinstance(credentials.expiry, datetime)
        return str(credentials.token), credentials.expiry.replace(tzinfo=UTC)

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
        async with self.session.post(f"{self.url}/v1/token", data=form) as answer:
            return answer.status, await answer.json()

    async def impersonate(
        self, federated: str, body: Any = None, email: str = EMAIL, call: str = "generateAccessToken"
    ) -> tuple[int, dict[str, Any]]:
        url = f"{self.url}/v1/projects/-/serviceAccounts/{email}:{call}"
        asked = {"delegates": None, "scope": [READ_SCOPE], "lifetime": "3600s"} if body is None else body
        data = asked if isinstance(asked, str) else json.dumps(asked)
        async with self.session.post(url, data=data, headers={"Authorization": f"Bearer {federated}"}) as answer:
            return answer.status, await answer.json()

    async def federated(self, **fields: str) -> str:
        return str((await self.exchange(**fields))[1]["access_token"])


class Supplier(identity_pool.SubjectTokenSupplier):
    def __init__(self, token: str) -> None:
        self._token = token

    def get_subject_token(self, context: object, request: object) -> str:  # noqa: ARG002 - google-auth's signature
        return self._token


@pytest.fixture
async def publisher(authority: Authority) -> AsyncIterator[Publisher]:
    clock = Clock()
    entra = Entra(clock)
    entra.resources[OURS] = Resource()
    identity = entra.add_identity("pullkeeper")
    stand_in = Google(entra, clock)
    provider = stand_in.add_provider(
        POOL,
        "deepint-azure-provider",
        entra.issuer_v1,
        [OURS],
        condition=lambda claims: claims["sub"] == identity.principal_id,
    )
    account = stand_in.add_service_account(EMAIL)
    stand_in.bind(EMAIL, f"principal://iam.googleapis.com/{POOL}/subject/{identity.principal_id}")
    server = Server(stand_in.application, authority=authority)
    await server.start()
    async with aiohttp.ClientSession() as session:
        yield Publisher(clock, entra, identity, stand_in, provider, account, server.url, session)
    await server.stop()


async def test_google_auth_gets_a_token_for_the_service_account(publisher: Publisher) -> None:
    token, expiry = await publisher.mint()

    issued = publisher.google.lookup(token)
    assert issued is not None
    assert issued.member == f"serviceAccount:{EMAIL}"
    assert issued.scopes == {READ_SCOPE}
    assert expiry == issued.expires_at
    assert (publisher.google.exchanges, publisher.google.impersonations) == (1, 1)


async def test_tokens_are_opaque_and_no_two_are_alike(publisher: Publisher) -> None:
    tokens = {(await publisher.mint())[0] for _ in range(2)} | {await publisher.federated()}

    assert len(tokens) == 3
    assert all(token.startswith("ya29.") and "." not in token[7:] for token in tokens)


async def test_a_federated_token_is_the_principal_with_the_scope_it_asked_for(publisher: Publisher) -> None:
    _, answer = await publisher.exchange(scope=CLOUD_SCOPE)

    issued = publisher.google.lookup(answer["access_token"])
    assert issued is not None
    assert (issued.member, issued.scopes) == (publisher.principal, frozenset({CLOUD_SCOPE}))
    assert answer["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    assert answer["token_type"] == "Bearer"


@pytest.mark.parametrize(("life", "most"), [(24 * HOUR, 3600), (600 * SECOND, 600), (2 * SECOND, None)])
async def test_a_federated_token_lives_an_hour_or_as_long_as_its_subject(
    publisher: Publisher, life: timedelta, most: int | None
) -> None:
    """With next to nothing left the answer has no expires_in at all."""
    status, answer = await publisher.exchange(publisher.subject_token(life))

    assert status == 200
    if most is None:
        assert "expires_in" not in answer
    else:
        assert most - 3 <= answer["expires_in"] <= most


async def test_tokens_end_by_the_shared_clock(publisher: Publisher) -> None:
    federated, token = await publisher.federated(), (await publisher.mint(seconds=1800))[0]
    publisher.clock.advance(HOUR / 2)

    assert publisher.google.lookup(token) is None
    assert (await publisher.impersonate(federated))[0] == 200
    publisher.clock.advance(HOUR / 2)
    status, answer = await publisher.impersonate(federated)
    assert (status, answer["error"]["status"]) == (401, "UNAUTHENTICATED")


async def test_revoked_tokens_are_worth_nothing(publisher: Publisher) -> None:
    token = (await publisher.mint())[0]
    publisher.google.revoke_all()

    assert publisher.google.lookup(token) is None


def _signed(publisher: Publisher, **claims: Any) -> str:
    """A subject token with the tenant's signature on other claims; None leaves one out."""
    usual = jwt.decode(publisher.subject_token(), options={"verify_signature": False})
    kept = {name: value for name, value in {**usual, **claims}.items() if value is not None}
    return jwt.encode(kept, publisher.entra._key, "RS256", headers={"kid": publisher.entra._key_id})


def _now(publisher: Publisher, ahead: timedelta = timedelta()) -> int:
    return int((publisher.clock() + ahead).timestamp())


async def _refused(publisher: Publisher, token: str | None = None, **fields: str) -> Mapping[str, Any]:
    status, answer = await publisher.exchange(token, **fields)
    assert status == 400
    assert publisher.google.exchanges == 0
    return answer


async def test_another_audience_is_refused(publisher: Publisher) -> None:
    assert await _refused(publisher, _signed(publisher, aud="api://other")) == {
        "error": "invalid_grant",
        "error_description": "The audience in ID Token [api://other] does not match the expected audience.",
    }


async def test_another_issuer_is_refused(publisher: Publisher) -> None:
    """The mistake that everybody makes: the provider expects version 2 tokens, or the other way round."""
    publisher.provider.issuer = publisher.entra.issuer_v2

    assert await _refused(publisher) == {
        "error": "invalid_grant",
        "error_description": (
            f"The issuer in ID Token {publisher.entra.issuer_v1} does not match the expected one in config: "
            f"{publisher.entra.issuer_v2}"
        ),
    }


@pytest.mark.parametrize(("late", "good"), [(55 * SECOND, True), (65 * SECOND, False)])
async def test_an_expired_token_is_taken_for_another_minute(
    publisher: Publisher, late: timedelta, *, good: bool
) -> None:
    token = publisher.subject_token()
    publisher.clock.advance(HOUR + late)

    status, answer = await publisher.exchange(token)

    assert (status == 200) is good
    if not good:
        issued = jwt.decode(token, options={"verify_signature": False})["iat"]
        assert answer["error_description"] == f"ID Token issued at {issued} is stale to sign-in."


@pytest.mark.parametrize("claims", [{"iat": None}, {"exp": None}, {"exp": "soon"}])
async def test_a_token_without_its_times_is_stale(publisher: Publisher, claims: dict[str, Any]) -> None:
    answer = await _refused(publisher, _signed(publisher, **claims))

    assert answer["error"] == "invalid_grant"
    assert answer["error_description"].endswith(" is stale to sign-in.")


@pytest.mark.parametrize(("ahead", "good"), [(55 * SECOND, True), (65 * SECOND, False)])
async def test_an_issuers_clock_may_be_a_minute_ahead(publisher: Publisher, ahead: timedelta, *, good: bool) -> None:
    status, _ = await publisher.exchange(_signed(publisher, iat=_now(publisher, ahead), nbf=None))

    assert (status == 200) is good


@pytest.mark.parametrize("audience", [f"{AUDIENCE}2", AUDIENCE.replace("4711", "4712")])
async def test_a_provider_that_is_not_there_is_refused(publisher: Publisher, audience: str) -> None:
    assert await _refused(publisher, audience=audience) == {
        "error": "invalid_target",
        "error_description": (
            'The target service indicated by the "audience" parameters is invalid. This might either be because the '
            "pool or provider is disabled or deleted or because it doesn't exist."
        ),
    }


async def test_a_disabled_provider_stops_exchanges_but_no_token_that_is_out(publisher: Publisher) -> None:
    federated, token = await publisher.federated(), (await publisher.mint())[0]
    publisher.provider.disabled = True

    assert (await publisher.exchange())[1]["error"] == "invalid_target"
    assert (await publisher.impersonate(federated))[0] == 200
    assert publisher.google.lookup(token) is not None


async def test_an_audience_of_another_form_is_refused(publisher: Publisher) -> None:
    """Such as with the project's id in place of its number."""
    answer = await _refused(publisher, audience=AUDIENCE.replace("4711", "deepintshield"))

    assert answer["error"] == "invalid_request"
    assert answer["error_description"].startswith(
        'Invalid value for "audience". This value should be the full resource name of the Identity Provider. See '
    )


async def test_the_attribute_condition_has_its_say(publisher: Publisher) -> None:
    other = publisher.entra.add_identity("other")

    assert await _refused(publisher, publisher.entra.token(other, OURS)) == {
        "error": "unauthorized_client",
        "error_description": "The given credential is rejected by the attribute condition.",
    }


@pytest.mark.parametrize("token", ["", "token", "a.b.c", "{}"])
async def test_what_is_no_jwt_is_refused(publisher: Publisher, token: str) -> None:
    assert (await _refused(publisher, token))["error_description"] == "Unable to parse the ID Token."


async def test_a_changed_token_is_refused(publisher: Publisher) -> None:
    head, _, signature = publisher.subject_token().split(".")
    _, claims, _ = _signed(publisher, exp=_now(publisher, 48 * HOUR)).split(".")

    answer = await _refused(publisher, f"{head}.{claims}.{signature}")

    assert answer["error_description"] == "Unable to verify the ID Token signature."


async def test_an_unsigned_token_is_refused(publisher: Publisher) -> None:
    claims = jwt.decode(publisher.subject_token(), options={"verify_signature": False})
    token = jwt.encode(claims, "", "none", headers={"kid": publisher.entra._key_id})

    assert (await _refused(publisher, token))["error_description"] == "Unable to verify the ID Token signature."


async def test_a_key_that_the_issuer_does_not_publish_is_refused(publisher: Publisher) -> None:
    stranger = Entra(publisher.clock)
    stranger.tenant = publisher.entra.tenant

    answer = await _refused(publisher, stranger.token(publisher.identity, OURS))

    assert answer["error_description"] == "Error connecting to the given credential's issuer."


async def test_a_token_about_nobody_is_refused(publisher: Publisher) -> None:
    answer = await _refused(publisher, _signed(publisher, sub=None))

    assert answer["error_description"].startswith("Could not obtain a value for google.subject")


@pytest.mark.parametrize(
    ("field", "error"),
    [
        ("grant_type", "invalid_request"),
        ("requested_token_type", "invalid_request"),
        ("subject_token_type", "invalid_request"),
        ("scope", "invalid_scope"),
    ],
)
async def test_the_rest_of_the_form_must_be_right(publisher: Publisher, field: str, error: str) -> None:
    assert (await _refused(publisher, **{field: "other"}))["error"] == error


async def test_a_provider_may_trust_an_issuer_with_keys_of_its_own(publisher: Publisher) -> None:
    """Such as a cluster's."""
    cluster = Entra(publisher.clock)
    publisher.google.add_provider(POOL, "cluster", cluster.issuer_v1, [OURS], keys=lambda: cluster.jwks)

    status, _ = await publisher.exchange(
        cluster.token(publisher.identity, OURS), audience=AUDIENCE.replace("deepint-azure-provider", "cluster")
    )

    assert status == 200


async def test_google_auth_raises_what_it_raises_for_a_refused_exchange(publisher: Publisher) -> None:
    publisher.provider.disabled = True

    with pytest.raises(OAuthError, match="invalid_target"):
        await publisher.mint()


async def test_without_a_binding_impersonation_is_denied(publisher: Publisher) -> None:
    publisher.google.unbind(EMAIL, publisher.principal)

    assert await publisher.impersonate(await publisher.federated()) == (
        403,
        {
            "error": {
                "code": 403,
                "message": (
                    "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."
                ),
                "status": "PERMISSION_DENIED",
                "details": [
                    {
                        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                        "reason": "IAM_PERMISSION_DENIED",
                        "domain": "iam.googleapis.com",
                        "metadata": {"permission": "iam.serviceAccounts.getAccessToken"},
                    }
                ],
            }
        },
    )


async def test_an_account_that_is_not_there_is_told(publisher: Publisher) -> None:
    with pytest.raises(RefreshError) as raised:
        await publisher.mint(email="nobody@deepintshield.iam.gserviceaccount.com")

    assert json.loads(raised.value.args[1])["error"] == {
        "code": 404,
        "message": "Not found; Gaia id not found for email nobody@deepintshield.iam.gserviceaccount.com",
        "status": "NOT_FOUND",
    }


async def test_more_than_an_hour_needs_the_organisations_leave_and_twelve_are_the_most(publisher: Publisher) -> None:
    with pytest.raises(RefreshError, match="allowServiceAccountCredentialLifetimeExtension"):
        await publisher.mint(seconds=3601)
    publisher.account.long_lifetimes = True

    _, expiry = await publisher.mint(seconds=12 * 3600)

    assert 12 * HOUR - 5 * SECOND <= expiry - datetime.now(UTC) <= 12 * HOUR
    with pytest.raises(RefreshError):
        await publisher.mint(seconds=12 * 3600 + 1)


async def test_a_service_accounts_token_is_none_of_the_pool(publisher: Publisher) -> None:
    """Impersonation asks who the caller is; the account itself was never given leave to impersonate."""
    federated = await publisher.federated()
    _, answer = await publisher.impersonate(federated, {"scope": [CLOUD_SCOPE]})

    assert (await publisher.impersonate(answer["accessToken"]))[0] == 403


async def test_a_token_without_the_scope_for_it_cannot_impersonate(publisher: Publisher) -> None:
    status, answer = await publisher.impersonate(await publisher.federated(scope=READ_SCOPE))

    assert status == 403
    assert answer["error"]["details"][0]["reason"] == "ACCESS_TOKEN_SCOPE_INSUFFICIENT"


@pytest.mark.parametrize("token", ["", "ya29.d.guessed"])
async def test_a_token_that_google_did_not_issue_is_unauthenticated(publisher: Publisher, token: str) -> None:
    status, answer = await publisher.impersonate(token)

    assert (status, answer["error"]["status"]) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        {},
        {"scope": None},
        {"scope": []},
        {"scope": READ_SCOPE},
        {"scope": ["everything"]},
        {"scope": [READ_SCOPE], "delegates": ["projects/-/serviceAccounts/other@p.iam.gserviceaccount.com"]},
        {"scope": [READ_SCOPE], "lifetime": 3600},
        {"scope": [READ_SCOPE], "lifetime": "0s"},
        {"scope": [READ_SCOPE], "lifetime": "-1s"},
        {"scope": [READ_SCOPE], "audience": "x"},
    ],
    ids=json.dumps,
)
async def test_a_request_that_makes_no_sense_is_an_invalid_argument(publisher: Publisher, body: Any) -> None:
    status, answer = await publisher.impersonate(await publisher.federated(), body)

    assert (status, answer["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert publisher.google.impersonations == 0


async def test_an_hour_is_what_nobody_asks_for(publisher: Publisher) -> None:
    _, answer = await publisher.impersonate(await publisher.federated(), {"scope": [READ_SCOPE]})

    left = datetime.fromisoformat(answer["expireTime"]) - datetime.now(UTC)
    assert HOUR - 5 * SECOND <= left <= HOUR
    assert "." not in answer["expireTime"]


async def test_no_other_method_of_accounts_is_served(publisher: Publisher) -> None:
    assert (await publisher.impersonate(await publisher.federated(), call="signJwt"))[0] == 404
