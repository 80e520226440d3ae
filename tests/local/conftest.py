"""Azure Resource Manager's stand-in with one cluster, and a caller with the rights of onboarding."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from local.azure.arm import ONBOARDER, Arm
from local.azure.credential import LocalCredential
from local.azure.entra import ARM, Entra, Identity
from local.azure.managed_cluster import KIND, ManagedCluster
from local.clock import Clock
from local.serving import Authority, Faults, Journal, Server

SUBSCRIPTION = "5eed5eed-0000-4000-8000-000000000001"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/Platform"
CLUSTERS = f"{GROUP}/providers/{KIND}"
BLUE = f"{CLUSTERS}/Blue"
API_SERVER = "https://blue-dns.hcp.westeurope.azmk8s.io:443"


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def error(self) -> tuple[int, str]:
        """Status and code. AKS's own errors have no "error" around them."""
        return self.status, self.body.get("error", self.body)["code"]

    @property
    def message(self) -> str:
        return str(self.body.get("error", self.body)["message"])


@dataclass(frozen=True, slots=True)
class Azure:
    """blue: the cluster. url: the stand-in's."""

    clock: Clock
    entra: Entra
    caller: Identity
    arm: Arm
    blue: ManagedCluster
    journal: Journal
    faults: Faults
    url: str

    @property
    def credential(self) -> LocalCredential:
        return LocalCredential(self.entra, self.caller)

    def assign(self, actions: frozenset[str], scope: str = f"/subscriptions/{SUBSCRIPTION}") -> None:
        """The caller's only role assignment."""
        self.arm._assignments.clear()
        self.arm.assign(self.caller.principal_id, scope, actions)

    async def send(
        self, method: str, path: str, *, token: str | None = None, body: Any = None, **headers: str
    ) -> Response:
        """token: by default a valid one; empty for none. body: JSON, or bytes."""
        token = self.entra.token(self.caller, ARM) if token is None else token
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        content: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.url + path, headers=sent, **content) as response,
        ):
            parsed = await response.json() if await response.read() else None
            return Response(response.status, response.headers, parsed)


@pytest.fixture
async def azure(authority: Authority, entra: Entra) -> AsyncIterator[Azure]:
    clock, journal, faults = Clock(), Journal(), Faults()
    entra = entra.with_clock(clock)
    caller = entra.add_identity("pullkeeper")
    arm = Arm(entra, clock, middlewares=[journal.middleware, faults.middleware])
    blue = arm.clusters.add(ManagedCluster(BLUE, API_SERVER, "the CA"))
    server = Server(arm.application, authority=authority)
    await server.start()
    azure = Azure(clock, entra, caller, arm, blue, journal, faults, server.url)
    azure.assign(ONBOARDER)
    yield azure
    await server.stop()
