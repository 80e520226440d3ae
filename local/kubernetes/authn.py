"""Who calls: a client certificate of the cluster, a bearer JWT of the local Entra, or nobody."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from jwt.exceptions import PyJWTError

from local.kubernetes import status

# The application that every AKS cluster with Entra integration trusts tokens for.
AKS_AUDIENCE = "6dae42f8-4368-4678-94ff-3960e28e3630"

AUTHENTICATED, UNAUTHENTICATED, MASTERS = "system:authenticated", "system:unauthenticated", "system:masters"


class Issuer(Protocol):
    """The part of the local Entra that is needed here; `verify` raises PyJWTError for what it did not issue."""

    def verify(self, token: str, audience: str) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: tuple[str, ...] = ()
    extra: Mapping[str, list[str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {"username": self.name, "groups": list(self.groups)}
        if self.extra:
            body["extra"] = dict(self.extra)
        return body


ANONYMOUS = User("system:anonymous", (UNAUTHENTICATED,))


def authenticate(issuer: Issuer, certificate: Mapping[str, Any] | None, authorization: str) -> User:
    """Raises ApiError 401 for a token that is wrong, expired or for somebody else.

    `certificate` is what the TLS layer says of a client certificate that it verified. As in the real chain a
    certificate comes first and a bad token is never an anonymous call.
    """
    if certificate:
        return _by_certificate(certificate)
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        return ANONYMOUS
    try:
        claims = issuer.verify(token.strip(), AKS_AUDIENCE)
    except PyJWTError:
        raise status.unauthorized() from None
    name = claims.get("oid")
    groups = claims.get("groups", [])
    if not isinstance(name, str) or not name or not isinstance(groups, list):
        raise status.unauthorized()
    extra = {"authentication.kubernetes.io/credential-id": [f"JTI={claims['jti']}"]} if claims.get("jti") else {}
    return User(name, (*groups, AUTHENTICATED), extra)


def _by_certificate(certificate: Mapping[str, Any]) -> User:
    subject = [pair for relative in certificate.get("subject", ()) for pair in relative]
    names = [text for kind, text in subject if kind == "commonName"]
    if not names:
        raise status.unauthorized()
    groups = tuple(text for kind, text in subject if kind == "organizationName")
    return User(names[0], (*groups, AUTHENTICATED))
