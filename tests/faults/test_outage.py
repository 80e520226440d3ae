"""Promise 1, end to end: no secret expires in 25 minutes of total outage of any service."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import pytest

from local.cloud import LocalCluster
from local.serving import Fault, Faults
from pullkeeper.errors import StorageUnavailable
from tests.faults.gate import Gates
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers
_DOWN: Final = Fault(status=503)
_TICK: Final = 5


@dataclass(frozen=True, slots=True)
class _Outage:
    """Minutes, of the virtual clock."""

    start: int
    length: int

    def is_on(self, minute: int) -> bool:
        return self.start <= minute < self.start + self.length


async def _google(world: World, _: LocalCluster, fault: Fault | None) -> None:
    _set(world.cloud.google_part.faults, fault)


async def _registry(world: World, _: LocalCluster, fault: Fault | None) -> None:
    _set(world.cloud.registry_parts[0].faults, fault)


async def _cluster(_: World, cluster: LocalCluster, fault: Fault | None) -> None:
    _set(cluster.part.faults, fault and Fault(path="/secrets/", method="PATCH", status=503))


async def _identity(world: World, _: LocalCluster, fault: Fault | None) -> None:
    """A new instance at every tick, so that no process has a token left."""
    _set(world.cloud.identity_part.faults, fault)
    await world.services.close()
    world._services = world.build_services()


async def _all(world: World, cluster: LocalCluster, fault: Fault | None) -> None:
    for switch in (_google, _registry, _cluster, _identity):
        await switch(world, cluster, fault)


def _set(faults: Faults, fault: Fault | None) -> None:
    faults.clear()
    if fault:
        faults.add(fault)


_Switch = Callable[[World, LocalCluster, Fault | None], Awaitable[None]]
_SWITCHES: Final[Mapping[str, _Switch]] = {
    "google": _google,
    "registry": _registry,
    "cluster": _cluster,
    "identity": _identity,
    "all": _all,
}


async def _expired_minutes(world: World, outage: _Outage, switch: _Switch, minutes: int) -> list[int]:
    """Return the minutes in which the secret holds an expired token."""
    cluster = await world.join("aks-1")
    expired: list[int] = []
    token = ""
    for minute in range(minutes):
        if minute % _TICK == 0:
            await switch(world, cluster, _DOWN if outage.is_on(minute) else None)
            try:
                await world.tick()
            except StorageUnavailable:
                assert outage.is_on(minute)
            token = await world.read_token(cluster)
        if world.cloud.google.lookup(token) is None:
            expired.append(minute)
        world.clock.advance(MINUTE)
    return expired


@pytest.mark.parametrize("start", range(25, 55, 5))
@pytest.mark.parametrize("service", _SWITCHES)
async def test_no_token_expires_in_25_minutes_of_outage(world: World, service: str, start: int) -> None:
    """Whenever it starts, and for an hour afterwards."""
    assert await _expired_minutes(world, _Outage(start, 25), _SWITCHES[service], 120) == []


@pytest.mark.parametrize("start", range(25, 55, 5))
async def test_no_token_expires_in_25_minutes_without_storage(world: World, gates: Gates, start: int) -> None:
    async def storage(_: World, __: LocalCluster, fault: Fault | None) -> None:
        gates.set("shut" if fault else "open")

    assert await _expired_minutes(world, _Outage(start, 25), storage, 120) == []


async def test_an_outage_of_65_minutes_does_expire_tokens(world: World) -> None:
    """So the tests above can fail. After the outage the secret is good again."""
    expired = await _expired_minutes(world, _Outage(25, 65), _cluster, 120)
    assert expired
    assert max(expired) < 25 + 65 + 30
