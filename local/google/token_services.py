"""Google's token services: the token exchange (STS) and impersonation (IAM credentials).

Error bodies are Google's. Tokens are opaque: only `lookup` knows what one is good for, and the registries ask it.
"""

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from local.azure.entra import Entra
from local.google.provider import Keys, Provider, sts_error
from local.google.refusals import (
    IAM_CREDENTIALS,
    STS,
    api_error,
    outside_perimeter,
    permission_denied,
    service_disabled,
)

_SCOPES: Final = "https://www.googleapis.com/auth/"
IAM_SCOPE: Final = f"{_SCOPES}iam"
CLOUD_SCOPE: Final = f"{_SCOPES}cloud-platform"
READ_SCOPE: Final = f"{_SCOPES}cloud-platform.read-only"
_HOUR: Final = timedelta(hours=1)
_AUDIENCE: Final = re.compile(
    r"//iam\.googleapis\.com/(projects/\d+/locations/global/workloadIdentityPools/[^/]+)/providers/([^/]+)"
)
_REQUIRED: Final = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
}


@dataclass(frozen=True, slots=True)
class Issued:
    """What Google knows of a token: its owner, its scopes, its end."""

    member: str
    scopes: frozenset[str]
    expires_at: datetime


@dataclass(slots=True)
class ServiceAccount:
    """users: members with roles/iam.workloadIdentityUser. long_lifetimes: the organisation allows up to 12 hours."""

    email: str
    users: set[str] = field(default_factory=set)
    long_lifetimes: bool = False


class Google:
    """STS at /v1/token and IAM at /v1/projects/-/serviceAccounts/EMAIL:generateAccessToken, in one application.

    disabled: services that no project has enabled. protected: services in a perimeter of VPC Service Controls whose
    ingress rules do not admit the caller.
    """

    def __init__(self, entra: Entra, clock: Callable[[], datetime], *, middlewares: Sequence[Middleware] = ()) -> None:
        self._entra = entra
        self._clock = clock
        self._providers: dict[str, Provider] = {}
        self._accounts: dict[str, ServiceAccount] = {}
        self._issued: dict[str, Issued] = {}
        self.disabled: set[str] = set()
        self.protected: set[str] = set()
        self.exchanges = 0
        self.impersonations = 0
        self.application = web.Application(middlewares=middlewares)
        self.application.on_response_prepare.append(self._add_date)
        self.application.router.add_post("/v1/token", self._exchange)
        self.application.router.add_post("/v1/projects/-/serviceAccounts/{call}", self._generate)

    def add_provider(
        self,
        pool: str,
        name: str,
        issuer: str,
        allowed_audiences: Sequence[str],
        condition: Callable[[Mapping[str, Any]], bool] = lambda _: True,
        *,
        keys: Keys | None = None,
    ) -> Provider:
        """pool: `projects/NUMBER/locations/global/workloadIdentityPools/POOL`. keys: by default the tenant's."""
        provider = Provider(
            pool, issuer, frozenset(allowed_audiences), keys or (lambda: self._entra.jwks), condition=condition
        )
        self._providers[f"//iam.googleapis.com/{pool}/providers/{name}"] = provider
        return provider

    def add_service_account(self, email: str) -> ServiceAccount:
        self._accounts[email] = account = ServiceAccount(email)
        return account

    def bind(self, email: str, principal: str) -> None:
        """Grant roles/iam.workloadIdentityUser to `principal://iam.googleapis.com/POOL/subject/SUBJECT`.

        Works at once; at Google it takes minutes.
        """
        self._accounts[email].users.add(principal)

    def unbind(self, email: str, principal: str) -> None:
        self._accounts[email].users.discard(principal)

    def lookup(self, token: str) -> Issued | None:
        """What a token is good for; None if it is unknown or has expired."""
        issued = self._issued.get(token)
        return issued if issued and self._clock() < issued.expires_at else None

    def revoke_all(self) -> None:
        self._issued.clear()

    def issue(self, prefix: str, member: str, scopes: frozenset[str], life: timedelta) -> tuple[str, datetime]:
        """A new token and its end, in whole seconds as at Google."""
        token = prefix + secrets.token_urlsafe(180)
        until = (self._clock() + life).replace(microsecond=0)
        self._issued[token] = Issued(member, scopes, until)
        return token, until

    async def _add_date(self, _: web.Request, response: web.StreamResponse) -> None:
        response.headers["Date"] = format_datetime(self._clock(), usegmt=True)

    async def _exchange(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        provider = self._find_provider(form)
        self._check_service(STS, provider.pool)
        claims = provider.verify(form.get("subject_token", ""), self._clock())
        now = self._clock()
        life = min(datetime.fromtimestamp(claims["exp"], now.tzinfo) - now, _HOUR)
        member = f"principal://iam.googleapis.com/{provider.pool}/subject/{claims['sub']}"
        token, _ = self.issue("ya29.d.", member, frozenset(form["scope"].split()), life)
        self.exchanges += 1
        body: dict[str, str | int] = {
            "access_token": token,
            "issued_token_type": _REQUIRED["requested_token_type"],
            "token_type": "Bearer",
        }
        seconds = int(life.total_seconds())
        # Google leaves expires_in out if the subject token is about to expire.
        if seconds > 2:  # noqa: PLR2004
            body["expires_in"] = seconds
        return web.json_response(body)

    def _find_provider(self, form: Mapping[str, str]) -> Provider:
        audience = form.get("audience", "")
        if not _AUDIENCE.fullmatch(audience):
            raise sts_error(
                "invalid_request",
                'Invalid value for "audience". This value should be the full resource name of the Identity Provider. '
                "See https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token for the list of possible "
                "formats.",
            )
        for name, value in _REQUIRED.items():
            if form.get(name) != value:
                raise sts_error("invalid_request", f'Invalid value for "{name}".')
        scopes = set(form.get("scope", "").split())
        if not scopes or not scopes <= {IAM_SCOPE, CLOUD_SCOPE, READ_SCOPE}:
            raise sts_error("invalid_scope", "Some requested scopes were invalid.")
        provider = self._providers.get(audience)
        if provider is None or provider.disabled:
            raise sts_error(
                "invalid_target",
                'The target service indicated by the "audience" parameters is invalid. This might either be because '
                "the pool or provider is disabled or deleted or because it doesn't exist.",
            )
        return provider

    def _check_service(self, service: str, caller: str) -> None:
        """caller: a pool, a principal of one, or a service account. The call counts for the project in its name."""
        project = str(re.findall(r"(?:projects/|@)([a-z0-9-]+)", caller)[0])
        if service in self.disabled:
            raise service_disabled(service, project)
        if service in self.protected:
            raise outside_perimeter(service, project)

    async def _generate(self, request: web.Request) -> web.Response:
        email, _, call = request.match_info["call"].rpartition(":")
        if call != "generateAccessToken":
            raise api_error(501, f"The local stand-in for Google does not play {call}.", "UNIMPLEMENTED")
        caller = self.lookup(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if caller is None:
            raise api_error(
                401,
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
                "valid authentication credential. See "
                "https://developers.google.com/identity/sign-in/web/devconsole-project.",
                "UNAUTHENTICATED",
            )
        self._check_service(IAM_CREDENTIALS, caller.member)
        if not caller.scopes & {IAM_SCOPE, CLOUD_SCOPE}:
            raise permission_denied(
                "Request had insufficient authentication scopes.", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"
            )
        scopes, life = _parse(await request.read())
        account = self._accounts.get(email)
        if account is None:
            raise api_error(404, f"Not found; Gaia id not found for email {email}", "NOT_FOUND")
        if caller.member not in account.users:
            permission = "iam.serviceAccounts.getAccessToken"
            message = f"Permission '{permission}' denied on resource (or it may not exist)."
            raise permission_denied(message, "IAM_PERMISSION_DENIED", permission=permission)
        if life > (12 * _HOUR if account.long_lifetimes else _HOUR):
            raise api_error(
                400,
                "The access token lifetime cannot exceed 3600 seconds ; if you would like to increase the maximum, the "
                "service account must be listed in the organization policy "
                "constraints/iam.allowServiceAccountCredentialLifetimeExtension",
                "INVALID_ARGUMENT",
            )
        token, until = self.issue("ya29.c.", f"serviceAccount:{account.email}", scopes, life)
        self.impersonations += 1
        return web.json_response({"accessToken": token, "expireTime": until.strftime("%Y-%m-%dT%H:%M:%SZ")})


def _is_scope(text: str) -> bool:
    """Includes `openid`, which gcloud always asks for beside the others."""
    return text == "openid" or text.startswith(_SCOPES)


def _parse(body: bytes) -> tuple[frozenset[str], timedelta]:
    """Scopes and lifetime of a generateAccessToken request. Delegation chains are refused."""
    try:
        request = json.loads(body)
    except ValueError:
        request = None
    if not isinstance(request, dict):
        raise api_error(400, "Invalid JSON payload received. Unexpected token.", "INVALID_ARGUMENT")
    unknown = set(request) - {"delegates", "scope", "lifetime"}
    if unknown:
        message = f'Invalid JSON payload received. Unknown name "{min(unknown)}": Cannot find field.'
        raise api_error(400, message, "INVALID_ARGUMENT")
    if request.get("delegates"):
        raise api_error(501, "The local stand-in for Google does not play delegates.", "UNIMPLEMENTED")
    scopes = request.get("scope")
    if not isinstance(scopes, list) or not scopes or not all(_is_scope(str(scope)) for scope in scopes):
        raise api_error(400, "Scope required.", "INVALID_ARGUMENT")
    lifetime = re.fullmatch(r"([1-9]\d{0,8})s", str(request.get("lifetime") or "3600s"))
    if not lifetime:
        raise api_error(400, f"Invalid value at 'lifetime': {request.get('lifetime')!r}", "INVALID_ARGUMENT")
    return frozenset(scopes), timedelta(seconds=int(lifetime[1]))
