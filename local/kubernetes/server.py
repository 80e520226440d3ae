"""The API server: one cluster with its CA, its certificate for the human, and its address."""

from collections.abc import Callable, Sequence
from datetime import datetime

import trustme
from aiohttp import web
from aiohttp.typedefs import Middleware

from local.kubernetes import bootstrap, wire
from local.kubernetes.authn import MASTERS, Issuer
from local.kubernetes.endpoints import Endpoints, Knobs
from local.kubernetes.store import Store
from local.serving import Authority, Server


class ApiServer:
    """A cluster's API server under its own CA. Start it, and call `url` with a client certificate or a token.

    `middlewares` run before authentication, the first one outermost: a `Journal`'s, then that of `Faults`.
    """

    def __init__(
        self,
        name: str,
        entra: Issuer,
        clock: Callable[[], datetime],
        *,
        middlewares: Sequence[Middleware] = (),
    ) -> None:
        self.name = name
        self.knobs = Knobs()
        self.store = Store()
        bootstrap.fill(self.store, clock)
        endpoints = Endpoints(self.store, entra, clock, self.knobs)
        application = web.Application(middlewares=middlewares, client_max_size=wire.BODY_LIMIT)
        application.router.add_route("*", "/{path:.*}", endpoints.handle)
        self._ca = trustme.CA(organization_name=f"Kubernetes {name}")
        self.ca_pem = self._ca.cert_pem.bytes().decode()
        self.admin_cert_pem, self.admin_key_pem = self.client_certificate("masterclient", MASTERS)
        self._server = Server(application, authority=Authority(self._ca), client_ca_pem=self.ca_pem)

    @property
    def url(self) -> str:
        """https://127.0.0.1:PORT, where the port is 0 before the first start and stays the same after it."""
        return self._server.url

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        """Stop listening. What is stored stays for the next start: a cluster that is unreachable for a while."""
        await self._server.stop()

    def client_certificate(self, user: str, group: str) -> tuple[str, str]:
        """PEM of a certificate and of its key, as a cluster with local accounts hands them out."""
        # trustme wants a host in every certificate; nobody looks at it here.
        issued = self._ca.issue_cert("localhost", common_name=user, organization_name=group)
        return issued.cert_chain_pems[0].bytes().decode(), issued.private_key_pem.bytes().decode()
