"""The whole app against a real API server: one server for the session, a cloud, an app and a namespace for each test.

The servers answer from one event loop that lasts for the session, and the tests run in it too. PULLKEEPER_REAL and
PULLKEEPER_KUBERNETES work as they do for `tests/contract`.
"""

import shutil
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest
import pytest_asyncio

from local.azure.entra import AKS, Entra
from local.azurite import Azurite
from local.cloud import LocalCluster
from local.kubernetes.apiserver import Issuer, RealApiServer
from local.pull_check import can_pull
from local.serving import Authority
from pullkeeper.model import Target, Wish
from tests.apiserver import at_hand
from tests.apiserver.running import Running, a_tenant, an_api_server
from tests.contract.cluster import Cluster, connected
from tests.contract.conversation import Answer, Caller, until
from tests.real.kubectl import Kubectl, encoded
from tests.world import World, open_world

HERE = Path(__file__).parent
ACCOUNT = "deepintshield-sa"
_PROGRAMS = {"kubectl": "kubectl", "gcloud": "google-cloud-cli"}
"""By the fixture that needs it: the package that brings it."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.path.parent != HERE:
        return
    at_hand.kubernetes()
    for program in _PROGRAMS.keys() & set(getattr(item, "fixturenames", ())):
        if shutil.which(program) is None:
            at_hand.missing(f"{program} is not installed", f"apt-get install {_PROGRAMS[program]}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            item.add_marker(pytest.mark.servers)
            item.add_marker(pytest.mark.real)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tenant() -> AsyncIterator[tuple[Entra, Issuer]]:
    async with a_tenant() as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server(tenant: tuple[Entra, Issuer]) -> AsyncIterator[RealApiServer]:
    async with an_api_server(tenant[1]) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def world(
    request: pytest.FixtureRequest,
    azurite: Azurite,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    tenant: tuple[Entra, Issuer],
) -> AsyncIterator[World]:
    """As everywhere, but of the tenant that the API server trusts.

    The API server's clock cannot be moved: a test gets its token for it (by a refresh) before it moves its own.
    """
    async with open_world(azurite.account(request.node.nodeid), authority, monkeypatch, tenant[0]) as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def people(server: RealApiServer, tenant: tuple[Entra, Issuer]) -> AsyncIterator[Cluster]:
    """Those who talk to the API server by plain HTTP: `admin` may do all."""
    async with connected(server, tenant[0]) as cluster:
        yield cluster


@pytest.fixture
def admin(people: Cluster) -> Caller:
    return people.admin


@pytest.fixture
def app(people: Cluster, world: World) -> Caller:
    """The app's identity: what another holder of its token could do."""
    return people.bearer(world.cloud.entra.token(world.cloud.app, AKS))


@pytest.fixture
def target() -> Target:
    """In a namespace that no other test has."""
    return Target(namespace=f"t-{uuid.uuid4().hex[:12]}", service_accounts=(ACCOUNT,))


class Join(Protocol):
    async def __call__(
        self, *, hub: str = "main", adopt: bool = False, further: Sequence[Wish] = ()
    ) -> LocalCluster: ...


@pytest.fixture
def join(world: World, server: RealApiServer, people: Cluster, target: Target) -> Join:
    """Onboards the API server with the test's target and further ones, and waits until it knows the role."""

    async def join(*, hub: str = "main", adopt: bool = False, further: Sequence[Wish] = ()) -> LocalCluster:
        targets = [target, *further]
        cluster = await world.join("aks-1", hub, targets=targets, adopt=adopt, server=Running.of(server, "aks-1"))
        place = {"namespace": target.namespace, "resource": "secrets", "name": target.secret, "verb": "patch"}
        app = people.bearer(world.cloud.entra.token(world.cloud.app, AKS))

        def allowed(answer: Answer) -> bool:
            return answer.body["status"]["allowed"] is True

        review = {"spec": {"resourceAttributes": place}}
        await until(lambda: app.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review), allowed)
        return cluster

    return join


async def pulled(world: World, cluster: LocalCluster) -> bool:
    """Whether what lies in the secret pulls the hub's image."""
    auths = await cluster.admin.read_auths(cluster.target.namespace, cluster.target.secret)
    return await can_pull(auths, world.cloud.hubs["main"].image, world.cloud.authority.pem)


@pytest.fixture
def kubectl(server: RealApiServer, target: Target, tmp_path: Path) -> Kubectl:
    """A person's, with all rights, in the test's namespace."""
    user = {"client-certificate-data": encoded(server.admin_cert_pem), "client-key-data": encoded(server.admin_key_pem)}
    return Kubectl(server, user, target.namespace, tmp_path / "person")


@pytest.fixture
def gcloud() -> Path:
    """Google's own."""
    return at_hand.program("gcloud")
