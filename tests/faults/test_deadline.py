"""No invocation comes near `functionTimeout`, also if each of its calls uses up its time.

All times are a thirtieth of those in production.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest

from local.serving import Fault
from pullkeeper.deadline import INVOCATION, deadline
from pullkeeper.diagnosis.diagnostics import Diagnostics
from pullkeeper.errors import PullkeeperError, StorageUnavailable
from pullkeeper.fleet import storage
from pullkeeper.onboarding.documents import Onboarding
from tests.faults.gate import Gates
from tests.faults.triggers import FUNCTIONS, WITHOUT_CALLS, invoke
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
    monkeypatch.setattr("pullkeeper.onboarding.run._RESERVE", _CALL)


async def _seconds(invocation: Callable[[], Awaitable[object]]) -> float:
    began = time.monotonic()
    with deadline(_INVOCATION), suppress(PullkeeperError):
        await invocation()
    return time.monotonic() - began


@pytest.mark.usefixtures("calls_are_limited")
async def test_a_run_with_slow_storage_ends_in_time_and_is_reported(world: World, gates: Gates) -> None:
    """Each call takes a fifth of the time that it may take."""
    for number in range(8):
        await world.join(f"aks-{number}")
    due = len((await world.services.shards.totals()).shards)
    gates.delay(_CALL.total_seconds() / 5)
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


@pytest.mark.parametrize("fault", [Fault(slow_only=True, delay=_CALL), Fault(hang=True)], ids=["slow", "silent"])
@pytest.mark.usefixtures("calls_are_limited", "process")
async def test_every_function_ends_in_time_if_its_calls_use_up_theirs(world: World, gates: Gates, fault: Fault) -> None:
    """Storage takes at least half of the time that a call may take. The others are as slow, or never respond."""
    cluster = await world.join("aks-1")
    operations = {}
    for function in ("onboarding", "onboarding_poison"):
        other = await world.cloud.add_cluster(function.replace("_", "-"), "main")
        request = Onboarding.parse({"cluster": str(other.id), "hub": "main"}, trusted_hosts=frozenset())
        operations[function] = (await world.services.onboarder.onboard(request)).id
    await world.services.storage_objects.create()
    gates.delay(_CALL.total_seconds() / 2)
    cloud = world.cloud
    for part in (cloud.identity_part, cloud.google_part, *cloud.registry_parts, cluster.part, cloud.arm_part):
        part.faults.add(fault)

    async def measure(name: str) -> tuple[str, float]:
        return name, await _seconds(lambda: invoke(name, cluster, operations.get(name, "0" * 32)))

    seconds = dict(await asyncio.gather(*(measure(str(name)) for name in FUNCTIONS)))

    assert {name for name, took in seconds.items() if took > (_INVOCATION + _SLACK).total_seconds()} == set()
    assert {name for name, took in seconds.items() if took < _CALL.total_seconds() / 3} <= WITHOUT_CALLS


async def test_the_time_that_storage_takes_is_the_diagnosis_own(world: World, gates: Gates) -> None:
    cluster = await world.join("aks-1")
    cluster.part.faults.add(Fault(hang=True))
    limit = timedelta(seconds=2)
    diagnostics = Diagnostics(replace(world.services.diagnostics._tools, limit=limit))
    gates.delay(limit.total_seconds() / 4)  # of each of two reads
    diagnosis = await diagnostics.examine_cluster(cluster.id)
    assert diagnosis.seconds < limit.total_seconds() * 1.2
    gates.set("silent")
    with pytest.raises(StorageUnavailable):
        await asyncio.wait_for(diagnostics.examine_cluster(cluster.id), limit.total_seconds() * 2)
