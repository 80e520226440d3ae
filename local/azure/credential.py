"""A credential for Microsoft's clients that takes its tokens from the local tenant, without an endpoint."""

from dataclasses import dataclass
from typing import Any, Self

from azure.core.credentials import AccessToken

from local.azure.entra import Entra, Identity


@dataclass(frozen=True, slots=True)
class LocalCredential:
    """Its tokens look expired to the client, so the client asks for each call, and only the tenant's clock counts."""

    entra: Entra
    identity: Identity

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        [scope] = scopes
        return AccessToken(self.entra.token(self.identity, scope.removesuffix("/.default")), 0)

    async def close(self) -> None:
        """Nothing is open."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""
