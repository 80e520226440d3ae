"""Fixtures for every test: a certificate authority that the process trusts, a tenant, Azurite, and a world."""

import atexit
import gc
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from hypothesis import HealthCheck, settings

# aiohttp reads the trusted CAs when it is imported, so this comes before everything that imports it. The platform, too,
# sets such variables before it starts the app.
_CA = trustme.CA()
_FOLDER = tempfile.TemporaryDirectory(prefix="pullkeeper-tests-")
atexit.register(_FOLDER.cleanup)
_PEM = Path(_FOLDER.name) / "ca.pem"
_CA.cert_pem.write_to_path(str(_PEM))
os.environ.update(SSL_CERT_FILE=str(_PEM), REQUESTS_CA_BUNDLE=str(_PEM), NO_PROXY="127.0.0.1,localhost")

from local.azure.entra import Entra  # noqa: E402
from local.azurite import Azurite  # noqa: E402
from local.clock import Clock  # noqa: E402
from local.serving import Authority  # noqa: E402
from tests.world import World, open_world  # noqa: E402

_FULL_HOUR = datetime(2026, 1, 1, tzinfo=UTC)

# A busy machine is slow, which is no failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over the tests and the modules, which last as long as the process."""
    gc.freeze()
    gc.set_threshold(20_000)


@pytest.fixture(scope="module", autouse=True)
def leftovers() -> Iterator[None]:
    """What a module leaves open is reported in it, and not wherever the garbage is collected next."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def authority() -> Authority:
    """The CA that this process trusts."""
    return Authority(_CA)


@pytest.fixture(scope="session")
def entra() -> Entra:
    """The tenant of all tests: a key takes a quarter of a second to make. Use it by `with_clock`."""
    return Entra(Clock())


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """One for the process. A test that needs empty storage uses an account of its own."""
    with Azurite() as azurite:
        yield azurite


@pytest.fixture
async def world(
    request: pytest.FixtureRequest,
    azurite: Azurite,
    authority: Authority,
    entra: Entra,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    """A cloud, empty storage, and the app's services, on a clock that the test moves.

    The time of day decides when a shard is due. A test begins just after a full hour: none comes due while it runs.
    """
    async with open_world(azurite.account(request.node.nodeid), authority, monkeypatch, entra) as world:
        world.clock.advance((_FULL_HOUR - world.clock()) % timedelta(hours=1) + timedelta(seconds=5))
        yield world
