"""A world in a tenant that a real API server trusts, on the event loop of a module: one server serves all its tests."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
import stamina

from local.azure.entra import Entra
from local.azurite import Azurite
from local.kubernetes.apiserver import Issuer
from local.serving import Authority
from tests.apiserver.running import a_tenant
from tests.world import World, open_world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tenant() -> AsyncIterator[tuple[Entra, Issuer]]:
    async with a_tenant() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def world(
    request: pytest.FixtureRequest,
    azurite: Azurite,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    tenant: tuple[Entra, Issuer],
) -> AsyncIterator[World]:
    """The usual world, in the tenant that the API server trusts."""
    async with open_world(azurite.account(request.node.nodeid), authority, monkeypatch, tenant[0]) as made:
        yield made


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    """Retries wait here: a real API server takes a moment to see a new role."""
    with stamina.set_testing(False):
        yield
