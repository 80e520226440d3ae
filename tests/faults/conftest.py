"""Waits between retries are skipped in these tests; the number of tries stays as it is."""

from collections.abc import AsyncIterator, Iterator

import pytest
import stamina
from azure.core.pipeline.transport import AsyncHttpTransport

from local.cloud import SUBSCRIPTION
from tests.faults.gate import Gates, put_gates
from tests.world import World


@pytest.fixture(autouse=True)
def azure_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The seconds that Azure's SDKs would have waited between tries."""
    waits: list[float] = []

    async def skip(_: object, seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(AsyncHttpTransport, "sleep", skip)
    with stamina.set_testing(True, attempts=4, cap=True):
        yield waits


@pytest.fixture
async def gates(world: World) -> AsyncIterator[Gates]:
    """Between the app and its storage; the test itself bypasses them."""
    direct = world.storage
    async with put_gates(direct) as (behind, gates):
        world.storage = behind
        assert world.services
        world.storage = direct
        try:
            yield gates
        finally:
            await world.services.close()
            world._services = None


@pytest.fixture
def process(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions of the app use the world's services."""
    world.settings["ONBOARDING_SCOPES"] = f"/subscriptions/{SUBSCRIPTION}"
    for module in ("diagnosis", "fleet", "onboarding", "refresh", "schedule", "status"):
        monkeypatch.setattr(f"functions.{module}.services", lambda: world.services)
