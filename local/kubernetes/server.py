"""The API server: one cluster with its CA, its certificate for the human, and its address."""

from collections.abc import Sequence

import trustme
from aiohttp import web
from aiohttp.typedefs import Middleware

from local.clock import Clock
from local.kubernetes import bootstrap, wire
from local.kubernetes.authn import MASTERS, Issuer
from local.kubernetes.endpoints import Endpoints, Knobs
from local.kubernetes.store import Store
from local.serving import Authority, Server


class ApiServer:
    """A cluster's API server under its own CA. Start it, use `url` with the CA and either a certificate or a token.

    `middlewares` run before authentication, the first one outermost: a `Journal`, then `Faults`.
    """

    def __init__(self, name: str, entra: Issuer, clock: Clock, *, middlewares: Sequence[Middleware] = ()) -> None:
        self.name = name
        self.knobs = Knobs()
        self.store = Store()
        bootstrap.fill(self.store, clock)
        self._authority = Authority()
        self._clients = trustme.CA()
        self.admin_cert_pem, self.admin_key_pem = self.client_certificate("masterclient", MASTERS)
        endpoints = Endpoints(self.store, entra, clock, self.knobs)
        application = web.Application(middlewares=middlewares, client_max_size=wire.BODY_LIMIT)
        application.router.add_route("*", "/{path:.*}", endpoints.handle)
        self._application = application
        self._server: Server | None = None
        self._port = 0

    @property
    def ca_pem(self) -> str:
        return self._authority.pem

    @property
    def url(self) -> str:
        """Raises RuntimeError before the first start; it stays the same over a stop and a start."""
        if not self._port:
            raise RuntimeError(f"{self.name} has not been started")
        return f"https://127.0.0.1:{self._port}"

    async def start(self) -> None:
        self._server = Server(
            self._application,
            authority=self._authority,
            client_ca_pem=self._clients.cert_pem.bytes().decode(),
            port=self._port,
        )
        await self._server.start()
        self._port = int(self._server.url.rpartition(":")[2])

    async def stop(self) -> None:
        """Stops listening. What is stored stays for the next start: a cluster that is unreachable for a while."""
        if self._server:
            await self._server.stop()
            self._server = None

    def client_certificate(self, user: str, group: str) -> tuple[str, str]:
        """PEM of a certificate and of its key, as a cluster with local accounts hands them out."""
        # trustme wants a host in every certificate; nobody looks at it here.
        issued = self._clients.issue_cert("localhost", common_name=user, organization_name=group)
        return issued.cert_chain_pems[0].bytes().decode(), issued.private_key_pem.bytes().decode()
