"""The app's telemetry in a workspace."""

from collections.abc import Iterator

import pytest
import stamina
from azure.core.pipeline.transport import AsyncHttpTransport

from tests.monitoring.workspace import Workspace
from tests.onboarding.conftest import onboarding  # noqa: F401 - a fixture
from tests.world import World


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Retries within a call follow each other without a wait."""

    async def skip(*_: object) -> None: ...

    monkeypatch.setattr(AsyncHttpTransport, "sleep", skip)
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


@pytest.fixture
def workspace(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """Collects what the app emits in the test, at the time of the world's clock."""
    workspace = Workspace(world.clock)
    with workspace.collect(monkeypatch):
        yield workspace
