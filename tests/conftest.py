"""What every test can have: a certificate authority that the whole process trusts, Azurite, and a world of its own."""

import atexit
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme

# aiohttp reads the trusted CAs when it is imported. So this stands before everything that imports it, as the platform
# sets such variables before the app starts.
_CA = trustme.CA()
_FOLDER = tempfile.TemporaryDirectory(prefix="pullkeeper-tests-")
atexit.register(_FOLDER.cleanup)
_PEM = Path(_FOLDER.name) / "ca.pem"
_CA.cert_pem.write_to_path(str(_PEM))
os.environ.update(SSL_CERT_FILE=str(_PEM), REQUESTS_CA_BUNDLE=str(_PEM), NO_PROXY="127.0.0.1,localhost")

from local.azurite import Azurite  # noqa: E402
from local.serving import Authority  # noqa: E402
from tests.world import World, open_world  # noqa: E402


@pytest.fixture(scope="session")
def authority() -> Authority:
    """The CA that this process trusts."""
    return Authority(_CA)


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """One for the process; whoever needs clean storage takes an account of its own."""
    with Azurite() as azurite:
        yield azurite


@pytest.fixture
async def world(
    request: pytest.FixtureRequest, azurite: Azurite, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """A cloud, clean storage, and the app's services on a clock that the test moves."""
    async with open_world(azurite.account(request.node.nodeid), authority, monkeypatch) as made:
        yield made
