"""No invocation comes near `functionTimeout`, also if each of its calls uses up its time.

All times are a thirtieth of those in production.
"""

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

import pytest

from local.serving import Fault
from pullkeeper.deadline import INVOCATION, deadline
from pullkeeper.fleet import storage
from tests.faults.gate import Gates
from tests.world import World

pytestmark = pytest.mark.servers
_SCALE: Final = 30
_INVOCATION: Final = INVOCATION / _SCALE
_CALL: Final = storage.CALL / _SCALE
_SLACK: Final = timedelta(seconds=1)
"""For the machine; far less than the `functionTimeout` that is left, which is another _INVOCATION."""


@pytest.fixture
def calls_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "CALL", _CALL)


async def _seconds(invocation: Callable[[], Awaitable[object]]) -> float:
    began = time.monotonic()
    with deadline(_INVOCATION):
        await invocation()
    return time.monotonic() - began


@pytest.mark.usefixtures("calls_are_limited")
async def test_a_run_with_slow_storage_ends_in_time_and_is_reported(world: World, gates: Gates) -> None:
    """Each call takes half of the time that it may take."""
    for number in range(8):
        await world.join(f"aks-{number}")
    due = len((await world.services.shards.totals()).shards)
    gates.delay(_CALL.total_seconds() / 2)
    assert await _seconds(world.services.scheduler.run) < (_INVOCATION + _SLACK).total_seconds()
    [event] = world.events.named("run.completed")
    assert event["queued"] == due


@pytest.mark.parametrize("service", ["identity", "google", "registry", "cluster", "arm"])
@pytest.mark.usefixtures("calls_are_limited")
async def test_a_refresh_that_waits_for_a_silent_service_ends_in_time_and_records_it(
    world: World, service: str
) -> None:
    cluster = await world.join("aks-1")
    await world.services.shards.totals()  # creates the table
    part = {
        "identity": world.cloud.identity_part,
        "google": world.cloud.google_part,
        "registry": world.cloud.registry_parts[0],
        "cluster": cluster.part,
        "arm": world.cloud.arm_part,
    }[service]
    part.faults.add(Fault(hang=True))
    if service == "arm":
        await cluster.server.stop()
    category = ""

    async def refresh() -> None:
        nonlocal category
        category = await world.refresh_category(cluster)

    assert await _seconds(refresh) < (_INVOCATION + _SLACK).total_seconds()
    assert category
    assert (await world.target(cluster)).category == category
