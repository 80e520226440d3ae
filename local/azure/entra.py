"""Entra's tokens: a tenant that signs access tokens, and the endpoint that gives them to an app."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

AKS: Final = "6dae42f8-4368-4678-94ff-3960e28e3630"
ARM: Final = "https://management.azure.com"
ARM_FOR_AZ: Final = "https://management.core.windows.net"
"""An older name of the same application, which the Azure CLI asks for."""
STORAGE: Final = "https://storage.azure.com"
EXCHANGE: Final = "api://AzureADTokenExchange"
EXCHANGE_ID: Final = "fb60f99c-7a34-4190-8149-302f77469936"
"""The audience in tokens for EXCHANGE, which are version 2: the same in all tenants."""
SOVEREIGN: Final = {
    "AzureUSGovernment": (
        "https://login.microsoftonline.us",
        ("https://management.core.usgovcloudapi.net", "https://management.usgovcloudapi.net"),
        "api://AzureADTokenExchangeUSGov",
    ),
    "AzureChina": (
        "https://login.chinacloudapi.cn",
        ("https://management.chinacloudapi.cn", "https://management.core.chinacloudapi.cn"),
        "api://AzureADTokenExchangeChina",
    ),
}
"""Entra's address, names of Azure Resource Manager, and the audience of token exchange, as the Azure CLI has them."""
_DAY: Final = timedelta(hours=24)
_ALGORITHM: Final = "RS256"


@dataclass(frozen=True, slots=True)
class Identity:
    """A managed identity."""

    name: str
    client_id: str
    principal_id: str
    resource_id: str


@dataclass(frozen=True, slots=True)
class Resource:
    """An application that tokens are issued for. version: of its tokens, 1 or 2. audience: the claim `aud`, where it is
    not the name asked for: version 2 tokens have the application's id.
    """

    version: int = 1
    audience: str | None = None


@lru_cache
def _decode(token: str, audience: str, issuer: str, key: rsa.RSAPrivateKey) -> dict[str, Any]:
    """Kept, because many calls bring the same token, and to decode it costs as much as to serve a call."""
    claims: dict[str, Any] = jwt.decode(
        token,
        key.public_key(),
        algorithms=[_ALGORITHM],
        audience=audience,
        issuer=issuer,
        options={"require": ["exp", "iat", "nbf"], "verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )
    return claims


class Entra:
    """A tenant: its keys, its identities, and the resources it knows."""

    def __init__(self, clock: Callable[[], datetime], key: rsa.RSAPrivateKey | None = None) -> None:
        self.tenant = str(uuid.uuid4())
        self.identities: dict[str, Identity] = {}
        self._address, self.arm_audiences, self.exchange = (
            "https://login.microsoftonline.com",
            (ARM_FOR_AZ, ARM),
            EXCHANGE,
        )
        self._add_resources()
        self._clock = clock
        self._key = key or rsa.generate_private_key(65537, 2048)
        self._key_id = uuid.uuid4().hex
        self.application = web.Application()
        # The v1 path, which is also the one that OpenID Connect Discovery derives from the issuer.
        self.application.router.add_get("/{tenant}/.well-known/openid-configuration", self._get_configuration)
        self.application.router.add_get("/{tenant}/discovery/keys", self._get_keys)

    def with_clock(self, clock: Callable[[], datetime]) -> "Entra":
        """The same tenant and keys with another clock and identities of its own."""
        other = Entra(clock, self._key)
        other.tenant, other._key_id = self.tenant, self._key_id
        return other

    def move_to(self, cloud: str) -> None:
        """Be a tenant of a sovereign cloud: it does not know the resources of another one."""
        self._address, self.arm_audiences, self.exchange = SOVEREIGN[cloud]
        self._add_resources()

    def _add_resources(self) -> None:
        self.resources = {name: Resource() for name in (AKS, STORAGE, *self.arm_audiences)}
        self.resources[self.exchange] = Resource(2, EXCHANGE_ID)

    @property
    def issuer_v1(self) -> str:
        return f"https://sts.windows.net/{self.tenant}/"

    @property
    def issuer_v2(self) -> str:
        return f"{self._address}/{self.tenant}/v2.0"

    @property
    def jwks(self) -> dict[str, Any]:
        key = jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [{**key, "kid": self._key_id, "use": "sig", "alg": _ALGORITHM}]}

    def add_identity(self, name: str, resource_id: str | None = None) -> Identity:
        client_id = str(uuid.uuid4())
        default = (
            f"/subscriptions/{uuid.UUID(int=0)}/resourcegroups/local/providers"
            f"/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
        )
        identity = Identity(name, client_id, str(uuid.uuid4()), resource_id or default)
        self.identities[client_id] = identity
        return identity

    def token(self, identity: Identity, resource: str, lifetime: timedelta = _DAY) -> str:
        """An access token. The caller checks that the tenant knows the resource."""
        now = self._clock()
        audience = self.resources.get(resource.rstrip("/"), Resource())
        claims = {
            "aud": audience.audience or resource,
            "iat": now,
            "nbf": now,
            "exp": now + lifetime,
            "oid": identity.principal_id,
            "sub": identity.principal_id,
            "tid": self.tenant,
            "xms_mirid": identity.resource_id,
        }
        if audience.version == 1:
            claims |= {"iss": self.issuer_v1, "appid": identity.client_id, "ver": "1.0"}
        else:
            claims |= {"iss": self.issuer_v2, "azp": identity.client_id, "ver": "2.0"}
        return jwt.encode(claims, self._key, _ALGORITHM, headers={"kid": self._key_id})

    def verify(self, token: str, audience: str, leeway: timedelta = timedelta()) -> dict[str, Any]:
        """The claims of a v1 token of this tenant for the audience. Raises jwt.PyJWTError for any other token.

        Times are compared with the injected clock, which PyJWT cannot do.
        """
        claims = _decode(token, audience, self.issuer_v1, self._key)
        now = self._clock().timestamp()
        if now > claims["exp"] + leeway.total_seconds():
            raise jwt.ExpiredSignatureError("Signature has expired")
        if now < claims["nbf"] - leeway.total_seconds():
            raise jwt.ImmatureSignatureError("The token is not yet valid (nbf)")
        return claims

    def unknown_resource(self, resource: str) -> str | None:
        """Entra's message if the tenant does not know the resource."""
        if resource.rstrip("/") in self.resources:
            return None
        return (
            f"The resource principal named {resource} was not found in the tenant named {self.tenant}. This can happen "
            "if the application has not been installed by the administrator of the tenant or consented to by any user "
            "in the tenant. You might have sent your authentication request to the wrong tenant."
        )

    async def _get_configuration(self, request: web.Request) -> web.Response:
        self._check_tenant(request)
        return web.json_response(
            {
                "issuer": self.issuer_v1,
                "jwks_uri": f"{request.scheme}://{request.host}/{self.tenant}/discovery/keys",
                "response_types_supported": ["code", "id_token", "code id_token", "token id_token", "token"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": [_ALGORITHM],
            }
        )

    async def _get_keys(self, request: web.Request) -> web.Response:
        self._check_tenant(request)
        return web.json_response(self.jwks)

    def _check_tenant(self, request: web.Request) -> None:
        if request.match_info["tenant"] != self.tenant:
            raise web.HTTPBadRequest(
                text='{"error":"invalid_tenant","error_description":"AADSTS90002: Tenant not found."}',
                content_type="application/json",
            )


class IdentityEndpoint:
    """The endpoint inside App Service and Functions (protocol 2019-08-01), for the identities assigned to one app.

    Like the real one it caches a token per identity and resource until five minutes before its end, so a token it
    returns may be hours old. system_assigned: the identity that answers a request without a client id.
    """

    def __init__(
        self,
        entra: Entra,
        clock: Callable[[], datetime],
        assigned: list[Identity],
        system_assigned: Identity | None = None,
    ) -> None:
        self.secret = uuid.uuid4().hex
        self._entra = entra
        self._clock = clock
        self._assigned = {identity.client_id: identity for identity in assigned}
        self._system = system_assigned
        self._cache: dict[tuple[str, str], tuple[str, datetime]] = {}

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/msi/token", self._get_token)]

    def environment(self, url: str) -> dict[str, str]:
        """The variables that App Service sets for an app."""
        return {"IDENTITY_ENDPOINT": f"{url}/msi/token", "IDENTITY_HEADER": self.secret}

    def assign(self, identity: Identity) -> None:
        self._assigned[identity.client_id] = identity

    def unassign(self, identity: Identity) -> None:
        del self._assigned[identity.client_id]

    def clear_cache(self) -> None:
        self._cache.clear()

    async def _get_token(self, request: web.Request) -> web.Response:
        if request.headers.get("X-IDENTITY-HEADER") != self.secret:
            return _error(401, "Unauthorized", "The X-IDENTITY-HEADER does not match.")
        if request.query.get("api-version") != "2019-08-01":
            return _error(400, "BadRequest", "The api-version is not supported.")
        client_id = request.query.get("client_id")
        identity = self._assigned.get(client_id) if client_id else self._system
        if identity is None:
            missing = (
                "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId."
            )
            return _error(400, "BadRequest", missing)
        resource = request.query.get("resource", "")
        if self._entra.unknown_resource(resource):
            return _unexpected_error()
        return web.json_response(self._respond(identity, resource))

    def _respond(self, identity: Identity, resource: str) -> Mapping[str, str]:
        now = self._clock()
        token, until = self._cache.get((identity.client_id, resource), ("", now))
        if until - now < timedelta(minutes=5):
            token, until = self._entra.token(identity, resource), now + _DAY
            self._cache[identity.client_id, resource] = token, until
        return {
            "access_token": token,
            "expires_on": str(int(until.timestamp())),
            "resource": resource,
            "token_type": "Bearer",
            "client_id": identity.client_id,
        }


def _unexpected_error() -> web.Response:
    """As App Service responds when Entra refuses: github.com/Azure/azure-sdk-for-net/issues/44685."""
    message = "An unexpected error occured while fetching the AAD Token."
    body = {"statusCode": 500, "message": message, "correlationId": str(uuid.uuid4())}
    return web.json_response(body, status=500)


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"statusCode": status, "error": code, "message": message}, status=status)
