"""A cluster for the runbook's commands (a real API server, kubectl, a gcloud that prints one token), and the hosted app
for the examples.
"""

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from local.azure.arm import ONBOARDER
from local.azure.entra import AKS, Entra
from local.azurite import Azurite
from local.clock import Clock
from local.cloud import GROUP, SUBSCRIPTION
from local.function_host import HostProcess
from local.kubernetes.apiserver import Etcd, Issuer, RealApiServer
from local.serving import Authority, Server
from pullkeeper.cluster.api import Api
from pullkeeper.model import Endpoint
from pullkeeper.tokens import EntraToken
from tests.apiserver import at_hand
from tests.docs.pipelines import run_program
from tests.end_to_end.conftest import Deployed
from tests.http.conftest import App, host_app
from tests.real.kubectl import Kubectl, encoded
from tests.world import World

HERE = Path(__file__).parent
TOKEN_BY_HAND = "ya29.written-by-hand"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.path.parent == HERE and item.get_closest_marker("real"):
        at_hand.kubernetes()
        if shutil.which("kubectl") is None:
            at_hand.missing("kubectl is not installed", "apt-get install kubernetes-client")


@dataclass(frozen=True, slots=True)
class Terminal:
    """Bash with the runbook's variables, rights to everything, and a folder of its own."""

    environment: dict[str, str]
    server: RealApiServer
    entra_token: str

    async def run(self, commands: str) -> str:
        """Return what the commands print. AssertionError if one of them fails."""
        arguments = ["bash", "-o", "errexit", "-o", "pipefail", "-o", "nounset", "-c", commands]
        run = await run_program(arguments, self.environment, Path(self.environment["HOME"]))
        assert run.code == 0, f"{commands}\n{run.out}{run.err}"
        return run.out

    def connect_as_app(self) -> Api:
        """Return a client for the same cluster, with the app's identity."""
        endpoint = Endpoint(server=self.server.url, ca=self.server.ca_pem, read_at=datetime.now(UTC))
        return Api(endpoint, EntraToken(self.entra_token))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def terminal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Terminal]:
    entra, authority = Entra(Clock()), Authority()
    app = entra.add_identity("pullkeeper")
    async with AsyncExitStack() as opened:
        issuer = Server(entra.application, authority=authority)
        etcd = Etcd(at_hand.kubernetes())
        for part in (issuer, etcd):
            await part.start()
            opened.push_async_callback(part.stop)
        discovery = f"{issuer.url}/{entra.tenant}/.well-known/openid-configuration"
        server = RealApiServer("runbook", etcd=etcd, issuer=Issuer(entra.issuer_v1, discovery, authority.pem))
        await server.start()
        opened.push_async_callback(server.stop)
        admin = {
            "client-certificate-data": encoded(server.admin_cert_pem),
            "client-key-data": encoded(server.admin_key_pem),
        }
        kubectl = Kubectl(server, admin, "default", tmp_path_factory.mktemp("operator") / "home")
        gcloud = kubectl.home / "gcloud"
        gcloud.write_text(f"#!/bin/sh\necho {TOKEN_BY_HAND}\n", encoding="utf-8")
        gcloud.chmod(0o755)
        environment = {
            **kubectl.environment,
            "PATH": f"{kubectl.home}:{kubectl.environment['PATH']}",
            "NAMESPACE": "deepintshield",
            "SECRET": "ar-pull-secret",
            "PRINCIPAL": app.principal_id,
            "SERVICE_ACCOUNT": "acme-pull@deepintshield-images.iam.gserviceaccount.com",
        }
        yield Terminal(environment, server, entra.token(app, AKS))


@pytest.fixture
async def host(world: World) -> AsyncIterator[HostProcess]:
    """The hosted app, which may onboard all clusters of the local cloud."""
    world.cloud.arm.assign(world.cloud.app.principal_id, f"/subscriptions/{SUBSCRIPTION}", ONBOARDER)
    scope = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    async with AsyncExitStack() as opened:
        yield await Deployed(world, opened).host(schedule="0 0 0 1 1 *", ONBOARDING_SCOPES=scope)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def app(request: pytest.FixtureRequest, azurite: Azurite, authority: Authority) -> AsyncIterator[App]:
    """The same, once for a module: each test brings clusters of its own."""
    async with host_app(request.node.nodeid, azurite, authority) as app:
        yield app
