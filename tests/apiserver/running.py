"""A real API server that several tests share, and the tenant whose tokens it trusts."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Self

from local.azure.entra import Entra
from local.clock import Clock
from local.kubernetes.apiserver import Etcd, Issuer, RealApiServer
from local.serving import Authority, Server
from tests.apiserver import at_hand


@dataclass(frozen=True, slots=True)
class Running:
    """An API server that the clusters of all tests are: none of them starts or stops it."""

    name: str
    url: str
    ca_pem: str
    admin_cert_pem: str
    admin_key_pem: str

    @classmethod
    def of(cls, server: RealApiServer, name: str) -> Self:
        return cls(name, server.url, server.ca_pem, server.admin_cert_pem, server.admin_key_pem)

    async def start(self) -> None:
        """It runs already."""

    async def stop(self) -> None:
        """Others still need it."""


@asynccontextmanager
async def a_tenant() -> AsyncIterator[tuple[Entra, Issuer]]:
    """The one that the API server trusts, and where it finds its keys."""
    authority = Authority()
    entra = Entra(Clock())
    server = Server(entra.application, authority=authority)
    await server.start()
    discovery = f"{server.url}/{entra.tenant}/.well-known/openid-configuration"
    try:
        yield entra, Issuer(entra.issuer_v1, discovery, authority.pem)
    finally:
        await server.stop()


@asynccontextmanager
async def an_api_server(issuer: Issuer) -> AsyncIterator[RealApiServer]:
    """With an etcd of its own."""
    etcd = Etcd(at_hand.kubernetes())
    server = RealApiServer("real", etcd=etcd, issuer=issuer)
    async with AsyncExitStack() as opened:
        for part in (etcd, server):
            await part.start()
            opened.push_async_callback(part.stop)
        yield server
