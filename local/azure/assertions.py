"""Entra's token endpoint for workloads outside Azure: exchanges an assertion of a trusted issuer for an access token.

A managed identity trusts the exact issuer, subject and audience of its federated credentials. The issuer's keys are
found as Entra finds them: by OpenID Connect discovery over TLS, again for each request.
"""

import ssl
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp
import jwt
from aiohttp import web
from yarl import URL

from local.azure.entra import Entra, Identity

_JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_SKEW: Final = timedelta(minutes=5)
_LIFETIME: Final = timedelta(seconds=3599)
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
_ABOUT_ASSERTIONS: Final = "https://learn.microsoft.com/entra/identity-platform/certificate-credentials"
_ABOUT_FEDERATION: Final = "https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
_CASE_MATTERS: Final = (
    "https://learn.microsoft.com/en-us/entra/identity-platform/reference-breaking-changes#august-2024"
)


@dataclass(frozen=True, slots=True)
class FederatedCredential:
    """Whose assertions an identity trusts. Compared to the letter."""

    issuer: str
    subject: str
    audience: str


class Assertions:
    """`POST /{tenant}/oauth2/v2.0/token`. credentials: returns those of the identity with a client id.

    Add `routes()` to the tenant's application before it is served.
    """

    def __init__(
        self,
        entra: Entra,
        clock: Callable[[], datetime],
        credentials: Callable[[str], Iterable[FederatedCredential]],
    ) -> None:
        self.exchanges = 0
        self._entra = entra
        self._clock = clock
        self._credentials = credentials
        self._trusted_cas = ssl.create_default_context()

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/{tenant}/oauth2/v2.0/token", self._post_token)]

    def trust(self, ca_pem: str) -> None:
        """Trust another CA: AKS publishes its issuers under a public one, a cluster on this machine cannot."""
        self._trusted_cas.load_verify_locations(cadata=ca_pem)

    async def _post_token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        try:
            return await self._exchange(request.match_info["tenant"], form)
        except _Refused as refused:
            return self._error(refused)

    async def _exchange(self, tenant: str, form: Mapping[str, str]) -> web.Response:
        given = form.get("grant_type"), form.get("client_assertion_type")
        resource = form.get("scope", "").removesuffix("/.default")
        if given != ("client_credentials", _JWT_BEARER) or resource == form.get("scope"):
            raise web.HTTPNotImplemented(text="The stand-in for Entra plays only client assertions, for /.default.")
        identity = self._find_identity(tenant, form.get("client_id", ""))
        unknown = self._entra.unknown_resource(resource)
        if unknown:
            raise _Refused(500011, unknown, "invalid_resource")
        await self._check(form.get("client_assertion", ""), identity)
        self.exchanges += 1
        return web.json_response(
            {
                "token_type": "Bearer",
                "expires_in": int(_LIFETIME.total_seconds()),
                "ext_expires_in": int(_LIFETIME.total_seconds()),
                "access_token": self._entra.token(identity, resource, _LIFETIME),
            }
        )

    def _find_identity(self, tenant: str, client_id: str) -> Identity:
        if tenant != self._entra.tenant:
            raise _Refused(
                90002,
                f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into "
                "the correct cloud. Check with your subscription administrator, this may happen if there are no active "
                "subscriptions for the tenant.",
                "invalid_request",
            )
        identity = self._entra.identities.get(client_id)
        if identity is None:
            raise _Refused(
                700016,
                f"Application with identifier '{client_id}' was not found in the directory '{tenant}'. This can happen "
                "if the application has not been installed by the administrator of the tenant or consented to by any "
                "user in the tenant. You may have sent your authentication request to the wrong tenant.",
                "unauthorized_client",
            )
        return identity

    async def _check(self, assertion: str, identity: Identity) -> None:
        """Raise _Refused unless one of the identity's credentials matches and the issuer's own key has signed."""
        try:
            header = jwt.get_unverified_header(assertion)
            claims: dict[str, Any] = jwt.decode(assertion, options={"verify_signature": False})
        except jwt.PyJWTError:
            raise _Refused(50027, "JWT token is invalid or malformed.", "invalid_request") from None
        _match(claims, list(self._credentials(identity.client_id)))
        keys = await self._fetch_keys(claims["iss"])
        key = next((key for key in keys if key.get("kid") == header.get("kid")), None)
        if key is None:
            raise _Refused(
                7000272,
                f"The certificate with identifier {header.get('kid')} used to sign the federated credential could not "
                f"be found in the metadata of identity provider {claims['iss']}. Please validate that your Identity "
                "Provider's metadata exposes the key used to sign the incoming token.",
            )
        try:
            # RS256 is the only algorithm that Microsoft documents as supported. Times are compared below.
            options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}
            jwt.decode(assertion, jwt.PyJWK(key), algorithms=["RS256"], options=options)
        except jwt.PyJWTError:
            raise _Refused(700027, "Client assertion failed signature validation.") from None
        self._check_times(claims)

    async def _fetch_keys(self, issuer: str) -> list[dict[str, Any]]:
        try:
            connector = aiohttp.TCPConnector(ssl=self._trusted_cas)
            async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT, raise_for_status=True) as session:
                async with session.get(f"{issuer.rstrip('/')}/.well-known/openid-configuration") as response:
                    found = await response.json(content_type=None)
                # The document of another issuer has no keys for this one: a KeyError.
                uri = URL({issuer: found["jwks_uri"]}[found["issuer"]])
                async with session.get(uri.with_scheme("https")) as response:
                    keys: list[dict[str, Any]] = (await response.json(content_type=None))["keys"]
                    return keys
        except (aiohttp.ClientError, TimeoutError, OSError, LookupError, ValueError):
            raise _Refused(50166, "Request to External OIDC endpoint failed.", "invalid_request") from None

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = self._clock()
        since, until = (datetime.fromtimestamp(claims.get(name, 0), UTC) for name in ("nbf", "exp"))
        if not since - _SKEW <= now <= until + _SKEW:
            raise _Refused(
                700024,
                f"Client assertion is not within its valid time range. Current time: {_format_time(now)}, assertion "
                f"valid from {_format_time(since)}, expiry time of assertion {_format_time(until)}. Review the "
                f"documentation at {_ABOUT_ASSERTIONS} .",
            )

    def _error(self, refused: "_Refused") -> web.Response:
        trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
        at = f"{self._clock():%Y-%m-%d %H:%M:%SZ}"
        body = {
            "error": refused.error,
            "error_description": (
                f"AADSTS{refused.code}: {refused.text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {at}"
            ),
            "error_codes": [refused.code],
            "timestamp": at,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://login.microsoftonline.com/error?code={refused.code}",
        }
        return web.json_response(body, status=401 if refused.error == "invalid_client" else 400)


class _Refused(Exception):
    def __init__(self, code: int, text: str, error: str = "invalid_client") -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.error = error


def _match(claims: Mapping[str, Any], credentials: list[FederatedCredential]) -> None:
    """Raise _Refused unless a credential matches to the letter: first the issuer, then subject and audience."""
    issuer, subject, audience = (str(claims.get(name, "")) for name in ("iss", "sub", "aud"))
    if isinstance(claims.get("aud"), list):
        audience = str(claims["aud"][0]) if len(claims["aud"]) == 1 else str(claims["aud"])
    same_issuer = [one for one in credentials if one.issuer == issuer]
    same_subject = [one for one in same_issuer if one.subject == subject]
    if any(one.audience == audience for one in same_subject):
        return
    if same_subject:
        raise _explain_mismatch(700212, "audience", audience)
    if any(one.subject.casefold() == subject.casefold() for one in same_issuer):
        raise _Refused(
            7002138,
            f"No matching federated identity record found for presented assertion subject '{subject}'. The subject "
            "matches with case-insensitive comparison, but not with case-sensitive comparison. Check your federated "
            "identity credential Subject, Audience and Issuer against the presented assertion. See documentation at: "
            f"{_ABOUT_FEDERATION}. See breaking change notification and remediation at: {_CASE_MATTERS}.",
        )
    raise _explain_mismatch(700213, "subject", subject) if same_issuer else _explain_mismatch(700211, "issuer", issuer)


def _explain_mismatch(code: int, claim: str, value: str) -> _Refused:
    return _Refused(
        code,
        f"No matching federated identity record found for presented assertion {claim} '{value}'. Please check your "
        "federated identity credential Subject, Audience and Issuer against the presented assertion. "
        f"{_ABOUT_FEDERATION}",
    )


def _format_time(moment: datetime) -> str:
    """As .NET writes it, to a tenth of a microsecond."""
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}0Z"
