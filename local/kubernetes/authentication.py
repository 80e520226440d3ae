"""Who calls: a client certificate of the cluster, a bearer JWT of the local Entra, or the anonymous user."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from jwt.exceptions import InvalidTokenError, PyJWTError

from local.kubernetes.refusals import refuse

AKS_AUDIENCE: Final = "6dae42f8-4368-4678-94ff-3960e28e3630"
"""The application that every AKS cluster with Entra integration trusts tokens for."""
AUTHENTICATED: Final = "system:authenticated"
MASTERS: Final = "system:masters"


class Issuer(Protocol):
    """The part of the local Entra that is needed here. `verify` raises PyJWTError for a token that it did not issue."""

    def verify(self, token: str, audience: str) -> dict[str, Any]: ...


class OtherTenant:
    """A tenant that issued none of the tokens here."""

    def __init__(self) -> None:
        self.id = str(uuid.uuid4())

    def verify(self, token: str, audience: str) -> dict[str, Any]:  # noqa: ARG002 - of an Issuer
        raise InvalidTokenError(f"not of the tenant {self.id}")


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: tuple[str, ...] = ()


ANONYMOUS: Final = User("system:anonymous", ("system:unauthenticated",))


def authenticate(issuer: Issuer, certificate: Mapping[str, Any] | None, authorization: str) -> User:
    """The caller. Raises Refusal 401 for a token that is wrong, expired or of another audience.

    certificate: the client certificate that the TLS layer verified. It comes before a token, and a bad token is never
    an anonymous call, as in the real chain.
    """
    if certificate:
        return _by_certificate(certificate)
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        return ANONYMOUS
    try:
        claims = issuer.verify(token.strip(), AKS_AUDIENCE)
    except PyJWTError:
        raise refuse("unauthorized") from None
    name, groups = claims.get("oid"), claims.get("groups", [])
    if not isinstance(name, str) or not name or not isinstance(groups, list):
        raise refuse("unauthorized")
    return User(name, (*groups, AUTHENTICATED))


def _by_certificate(certificate: Mapping[str, Any]) -> User:
    subject = [pair for relative in certificate.get("subject", ()) for pair in relative]
    names = [text for kind, text in subject if kind == "commonName"]
    if not names:
        raise refuse("unauthorized")
    groups = tuple(text for kind, text in subject if kind == "organizationName")
    return User(names[0], (*groups, AUTHENTICATED))
