"""Failures of telemetry do not affect a refresh."""

import logging
from collections.abc import Iterator

import pytest

from pullkeeper import telemetry
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers


class _Broken(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError(f"no room for {record.levelname}")


@pytest.fixture
def broken_handler() -> Iterator[None]:
    """An exporter that has lost its connection, and raises."""
    handler = _Broken()
    logger = logging.getLogger("pullkeeper")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


@pytest.fixture
def broken_instruments(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such meter")

    for instrument in (telemetry.remaining_lifetime, telemetry.refresh_duration):
        monkeypatch.setattr(instrument, "record", fail)
    monkeypatch.setattr(telemetry.refresh_count, "add", fail)
    monkeypatch.setattr(telemetry.queue_depth, "set", fail)


@pytest.mark.usefixtures("broken_handler")
async def test_a_refresh_survives_a_broken_log_handler(world: World) -> None:
    good, bad = await world.join("aks-1"), await world.join("aks-2", access=False)
    for _ in range(3):
        await world.tick()
        world.clock.advance(25 * MINUTE)
    assert (await world.target(good)).category is None
    assert (await world.target(bad)).category == "cluster_rbac_denied"


@pytest.mark.usefixtures("broken_instruments")
async def test_a_refresh_survives_broken_instruments(world: World) -> None:
    good, bad = await world.join("aks-1"), await world.join("aks-2", access=False)
    for _ in range(3):
        await world.tick()
        world.clock.advance(25 * MINUTE)
    assert (await world.target(good)).category is None
    assert (await world.target(bad)).category == "cluster_rbac_denied"
    assert world.events.named("run.completed")
