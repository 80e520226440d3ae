"""A credential for servers that check no token."""

from typing import Self

from azure.core.credentials import AccessToken


class UncheckedCredential:
    """Returns the same token for everything."""

    async def get_token(self, *_: object, **__: object) -> AccessToken:
        return AccessToken("canary", 4102444800)

    async def close(self) -> None:
        """Nothing is open."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""
