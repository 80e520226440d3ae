"""Google's token services: the exchange (STS) and impersonation (IAM credentials), as strict as the real ones.

Checks come in Google's order and answer with Google's bodies; tokens are opaque and known to this object alone.
"""

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import jwt
from aiohttp import web
from aiohttp.typedefs import Middleware

from local.entra import Entra

_IAM_SCOPE: Final = "https://www.googleapis.com/auth/iam"
_CLOUD_SCOPES: Final = frozenset(
    {
        "https://www.googleapis.com/auth/cloud-platform",
        "https://www.googleapis.com/auth/cloud-platform.read-only",
    }
)
_SKEW: Final = timedelta(seconds=60)
_AUDIENCE: Final = re.compile(
    r"//iam\.googleapis\.com/(projects/\d+/locations/global/workloadIdentityPools/[^/]+)/providers/([^/]+)"
)
_HOUR: Final = timedelta(hours=1)
_EXTENSION: Final = "constraints/iam.allowServiceAccountCredentialLifetimeExtension"


@dataclass(slots=True)
class Provider:
    """An OIDC provider in a workload identity pool, mapping google.subject=assertion.sub."""

    pool: str
    issuer: str
    allowed_audiences: frozenset[str]
    condition: Callable[[Mapping[str, Any]], bool] = lambda _: True
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Issued:
    """What Google knows of a token it gave: who holds it, for what, until when."""

    member: str
    scopes: frozenset[str]
    expires_at: datetime


@dataclass(slots=True)
class ServiceAccount:
    email: str
    users: set[str] = field(default_factory=set)
    long_lifetimes: bool = False


class Google:
    """STS at /v1/token and IAM at /v1/projects/-/serviceAccounts/EMAIL:generateAccessToken, in one application."""

    def __init__(self, entra: Entra, clock: Callable[[], datetime], *, middlewares: Sequence[Middleware] = ()) -> None:
        self._entra = entra
        self._clock = clock
        self._providers: dict[str, Provider] = {}
        self._accounts: dict[str, ServiceAccount] = {}
        self._issued: dict[str, Issued] = {}
        self.exchanges = 0
        self.impersonations = 0
        self.application = web.Application(middlewares=middlewares)
        self.application.router.add_post("/v1/token", self._exchange)
        self.application.router.add_post("/v1/projects/-/serviceAccounts/{call}", self._generate)

    def add_provider(
        self, pool: str, name: str, issuer: str, allowed_audiences: Sequence[str], condition: Any = None
    ) -> Provider:
        """pool: `projects/NUMBER/locations/global/workloadIdentityPools/POOL`."""
        provider = Provider(pool, issuer, frozenset(allowed_audiences))
        if condition:
            provider.condition = condition
        self._providers[f"//iam.googleapis.com/{pool}/providers/{name}"] = provider
        return provider

    def add_service_account(self, email: str) -> ServiceAccount:
        self._accounts[email] = account = ServiceAccount(email)
        return account

    def bind(self, email: str, principal: str) -> None:
        """roles/iam.workloadIdentityUser for `principal://iam.googleapis.com/POOL/subject/SUBJECT`."""
        self._accounts[email].users.add(principal)

    def lookup(self, token: str) -> Issued | None:
        """Who a token is, while it is good."""
        issued = self._issued.get(token)
        return issued if issued and self._clock() < issued.expires_at else None

    def revoke_all(self) -> None:
        """Every token out there is worthless from now on."""
        self._issued.clear()

    def _issue(self, prefix: str, member: str, scopes: frozenset[str], life: timedelta) -> tuple[str, datetime]:
        token = prefix + secrets.token_urlsafe(180)
        # Google's times have whole seconds.
        until = (self._clock() + life).replace(microsecond=0)
        self._issued[token] = Issued(member, scopes, until)
        return token, until

    async def _exchange(self, request: web.Request) -> web.Response:
        form = await request.post()
        found = _AUDIENCE.fullmatch(str(form.get("audience", "")))
        if not found:
            raise _refusal(
                "invalid_request",
                'Invalid value for "audience". This value should be the full resource name of the Identity Provider. '
                "See https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token for the list of possible "
                "formats.",
            )
        for name, wanted in _FIXED.items():
            if form.get(name) != wanted:
                raise _refusal("invalid_request", f"Invalid value for {name}.")
        scopes = frozenset(str(form.get("scope", "")).split())
        if not scopes or not scopes <= _CLOUD_SCOPES | {_IAM_SCOPE}:
            raise _refusal("invalid_scope", "The requested scope is invalid.")
        provider = self._providers.get(found[0])
        if provider is None or provider.disabled:
            raise _refusal(
                "invalid_target",
                'The target service indicated by the "audience" parameters is invalid. This might either be because '
                "the pool or provider is disabled or deleted or because it doesn't exist.",
            )
        claims = self._verified(str(form.get("subject_token", "")), provider)
        now = self._clock()
        life = min(datetime.fromtimestamp(claims["exp"], now.tzinfo) - now, _HOUR)
        self.exchanges += 1
        member = f"principal://iam.googleapis.com/{provider.pool}/subject/{claims['sub']}"
        token, _ = self._issue("ya29.d.", member, scopes, life)
        answer = {
            "access_token": token,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
        }
        seconds = int(life.total_seconds())
        # A subject token with next to nothing left is answered without expires_in.
        return web.json_response(answer if seconds <= 2 else {**answer, "expires_in": seconds})  # noqa: PLR2004

    def _verified(self, token: str, provider: Provider) -> dict[str, Any]:
        """The claims of the subject token. Raises what Google says of any other."""
        try:
            header = jwt.get_unverified_header(token)
            claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
        except jwt.PyJWTError:
            raise _refusal("invalid_grant", "Unable to parse the ID Token.") from None
        if claims.get("iss") != provider.issuer:
            raise _refusal(
                "invalid_grant",
                f"The issuer in ID Token {claims.get('iss')} does not match the expected one in config: "
                f"{provider.issuer}",
            )
        if header.get("kid") not in {key["kid"] for key in self._entra.jwks["keys"]}:
            raise _refusal("invalid_grant", "Error connecting to the given credential's issuer.")
        try:
            self._entra.verify(token, claims.get("aud", ""), timedelta(days=36500))
        except jwt.PyJWTError:
            raise _refusal("invalid_grant", "Unable to verify the ID Token signature.") from None
        now = self._clock().timestamp()
        if "iat" not in claims or "exp" not in claims or now > claims["exp"] + _SKEW.total_seconds():
            raise _refusal("invalid_grant", f"ID Token issued at {claims.get('iat')} is stale to sign-in.")
        if claims.get("aud") not in provider.allowed_audiences:
            raise _refusal(
                "invalid_grant", f"The audience in ID Token [{claims.get('aud')}] does not match the expected audience."
            )
        if not provider.condition(claims):
            raise _refusal("unauthorized_client", "The given credential is rejected by the attribute condition.")
        return claims

    async def _generate(self, request: web.Request) -> web.Response:
        email, _, call = request.match_info["call"].rpartition(":")
        if call != "generateAccessToken":
            raise _failure(404, "Method not found.", "NOT_FOUND")
        caller = self.lookup(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if caller is None:
            raise _failure(
                401,
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
                "valid authentication credential. See "
                "https://developers.google.com/identity/sign-in/web/devconsole-project.",
                "UNAUTHENTICATED",
            )
        body = await request.json()
        if not body.get("scope"):
            raise _failure(400, "Scope required.", "INVALID_ARGUMENT")
        account = self._accounts.get(email)
        if account is None:
            raise _failure(404, f"Not found; Gaia id not found for email {email}", "NOT_FOUND")
        if caller.member not in account.users:
            raise _failure(
                403,
                "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
                "PERMISSION_DENIED",
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "IAM_PERMISSION_DENIED",
                    "domain": "iam.googleapis.com",
                    "metadata": {"permission": "iam.serviceAccounts.getAccessToken"},
                },
            )
        return self._impersonated(account, body)

    def _impersonated(self, account: ServiceAccount, body: Mapping[str, Any]) -> web.Response:
        asked = re.fullmatch(r"(\d+)s", str(body.get("lifetime") or "3600s"))
        life = timedelta(seconds=int(asked[1])) if asked else timedelta()
        longest = 12 * _HOUR if account.long_lifetimes else _HOUR
        if not timedelta() < life <= longest:
            raise _failure(
                400,
                "The access token lifetime cannot exceed 3600 seconds ; if you would like to increase the maximum, the "
                f"service account must be listed in the organization policy {_EXTENSION}",
                "INVALID_ARGUMENT",
            )
        self.impersonations += 1
        token, until = self._issue("ya29.c.", f"serviceAccount:{account.email}", frozenset(body["scope"]), life)
        return web.json_response({"accessToken": token, "expireTime": until.strftime("%Y-%m-%dT%H:%M:%SZ")})


_FIXED: Final = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
}


def _refusal(error: str, description: str) -> web.HTTPException:
    return _answer(400, {"error": error, "error_description": description})


def _failure(code: int, message: str, status: str, *details: Mapping[str, Any]) -> web.HTTPException:
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    return _answer(code, {"error": {**error, "details": list(details)} if details else error})


def _answer(status: int, body: Mapping[str, Any]) -> web.HTTPException:
    class Answer(web.HTTPException):
        status_code = status

    return Answer(text=json.dumps(body), content_type="application/json")
