"""Telemetry fails: refreshes do not notice."""

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
    """As an exporter's that has lost its connection and does not hide it."""
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
async def test_a_broken_log_handler_fails_no_refresh(world: World) -> None:
    good, bad = await world.join("aks-1"), await world.join("aks-2", access=False)
    for _ in range(3):
        await world.tick()
        world.clock.advance(25 * MINUTE)
    assert (await world.target(good)).category is None
    assert (await world.target(bad)).category == "cluster_rbac_denied"


@pytest.mark.usefixtures("broken_instruments")
async def test_broken_instruments_fail_no_refresh(world: World) -> None:
    good, bad = await world.join("aks-1"), await world.join("aks-2", access=False)
    for _ in range(3):
        await world.tick()
        world.clock.advance(25 * MINUTE)
    assert (await world.target(good)).category is None
    assert (await world.target(bad)).category == "cluster_rbac_denied"
    assert world.events.named("run.completed")


def test_names_that_log_records_have_themselves_are_no_obstacle(caplog: pytest.LogCaptureFixture) -> None:
    """An attribute called `name` or `message` would be a KeyError of logging's."""
    with caplog.at_level(logging.INFO, "pullkeeper"):
        telemetry.emit("run.completed", {"name": "a", "message": "b", "clusters": 1})
