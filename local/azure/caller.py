"""A credential for Microsoft's clients that asks no endpoint: an identity of the local tenant, in person."""

from dataclasses import dataclass
from typing import Any, Self

from azure.core.credentials import AccessToken

from local.azure.entra import ARM, Entra, Identity


@dataclass(frozen=True, slots=True)
class Caller:
    """Its tokens look expired to the client, which asks for a new one each time, so the tenant's clock alone counts."""

    entra: Entra
    identity: Identity

    async def get_token(self, *_: str, **__: Any) -> AccessToken:
        return AccessToken(self.entra.token(self.identity, ARM), 0)

    async def close(self) -> None:
        """Nothing is open."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""
