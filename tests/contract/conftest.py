"""One contract, two servers: the stand-in of local/kubernetes and a real kube-apiserver.

PULLKEEPER_REAL=required makes it a failure that the real one is not at hand; PULLKEEPER_KUBERNETES=1.36 has another
version of it.

The servers answer from one event loop that lasts for the session; the tests run in it too, each in a namespace
of its own.
"""

import inspect
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from local.azure.entra import Entra, Identity
from local.clock import Clock
from local.kubernetes import ApiServer
from local.kubernetes.apiserver import Etcd, Issuer, RealApiServer
from local.serving import Authority, Server
from tests.apiserver import at_hand
from tests.contract.cluster import Cluster, connected
from tests.contract.conversation import Caller

HERE = Path(__file__).parent


def pytest_runtest_setup(item: pytest.Item) -> None:
    if "real" in item.keywords:
        at_hand.kubernetes()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE and inspect.iscoroutinefunction(getattr(item, "function", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@dataclass(frozen=True, slots=True)
class Trust:
    """The local Entra and where an API server finds its keys."""

    clock: Clock
    entra: Entra
    issuer: Issuer


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def trust() -> AsyncIterator[Trust]:
    clock, authority = Clock(), Authority()
    entra = Entra(clock)
    server = Server(entra.application, authority=authority)
    await server.start()
    discovery = f"{server.url}/{entra.tenant}/.well-known/openid-configuration"
    yield Trust(clock, entra, Issuer(entra.issuer_v1, discovery, authority.pem))
    await server.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def etcd() -> AsyncIterator[Etcd]:
    etcd = Etcd(at_hand.kubernetes())
    await etcd.start()
    yield etcd
    await etcd.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def real(etcd: Etcd, trust: Trust) -> AsyncIterator[Cluster]:
    server = RealApiServer("real", etcd=etcd, issuer=trust.issuer)
    await server.start()
    async with connected(server, trust.entra) as cluster:
        yield cluster
    await server.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stand_in(trust: Trust) -> AsyncIterator[Cluster]:
    server = ApiServer("stand-in", trust.entra, trust.clock)
    await server.start()
    async with connected(server, trust.entra) as cluster:
        yield cluster
    await server.stop()


@pytest.fixture(params=["stand_in", pytest.param("real", marks=pytest.mark.real)])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    found: Cluster = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def admin(cluster: Cluster) -> Caller:
    return cluster.admin


@pytest_asyncio.fixture(loop_scope="session")
async def minor(real: Cluster) -> int:
    """The minor version of Kubernetes: 1.36 words a few refusals otherwise."""
    return int((await real.admin.get("/version")).body["minor"])


@pytest_asyncio.fixture(loop_scope="session")
async def namespace(cluster: Cluster) -> str:
    return await cluster.namespace()


@pytest.fixture
def secrets(namespace: str) -> str:
    """The address of the test's secrets."""
    return f"/api/v1/namespaces/{namespace}/secrets"


@pytest.fixture
def entra(trust: Trust) -> Entra:
    return trust.entra


@pytest.fixture
def identity(trust: Trust) -> Identity:
    """A managed identity that may do nothing yet."""
    return trust.entra.add_identity("pullkeeper")


@pytest.fixture
def app(cluster: Cluster, identity: Identity) -> Caller:
    return cluster.caller(identity)
