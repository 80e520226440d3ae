"""One contract, two servers: the stand-in of local/kubernetes and a real kube-apiserver.

PULLKEEPER_REAL=required makes it a failure that the real one is not at hand; PULLKEEPER_KUBERNETES=1.36 has another
version of it.

The servers answer from one event loop that lasts for the session; the tests run in it too, each in a namespace
of its own.
"""

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from local.azure.entra import Entra, Identity
from local.clock import Clock
from local.kubernetes import ApiServer
from local.kubernetes.apiserver import Etcd, Issuer, RealApiServer
from tests.apiserver import at_hand
from tests.apiserver.running import a_tenant
from tests.contract.cluster import Cluster, connected

HERE = Path(__file__).parent


def pytest_runtest_setup(item: pytest.Item) -> None:
    if "real" in item.keywords:
        at_hand.kubernetes()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE and inspect.iscoroutinefunction(getattr(item, "function", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tenant() -> AsyncIterator[tuple[Entra, Issuer]]:
    async with a_tenant() as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def etcd() -> AsyncIterator[Etcd]:
    etcd = Etcd(at_hand.kubernetes())
    await etcd.start()
    yield etcd
    await etcd.stop()


@asynccontextmanager
async def _running(server: ApiServer | RealApiServer, entra: Entra) -> AsyncIterator[Cluster]:
    await server.start()
    async with connected(server, entra) as cluster:
        yield cluster
    await server.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def real(etcd: Etcd, tenant: tuple[Entra, Issuer]) -> AsyncIterator[Cluster]:
    """It forgets old revisions, and so the pages of old lists, after five seconds instead of minutes."""
    server = RealApiServer("real", etcd=etcd, issuer=tenant[1], flags=("--etcd-compaction-interval=5s",))
    async with _running(server, tenant[0]) as cluster:
        yield cluster


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stand_in(tenant: tuple[Entra, Issuer]) -> AsyncIterator[Cluster]:
    async with _running(ApiServer("stand-in", tenant[0], Clock()), tenant[0]) as cluster:
        yield cluster


@pytest_asyncio.fixture(loop_scope="session")
async def minor(real: Cluster) -> int:
    """The minor version of Kubernetes: 1.36 words a few refusals otherwise."""
    return int((await real.admin.get("/version")).body["minor"])


@pytest.fixture
def identity(tenant: tuple[Entra, Issuer]) -> Identity:
    """A managed identity that may do nothing yet."""
    return tenant[0].add_identity("pullkeeper")
