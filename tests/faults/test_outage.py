"""Promise 1, end to end: 25 minutes without any of those whom we call leave no secret with an expired token."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import pytest

from local.cloud import LocalCluster
from local.serving import Fault
from pullkeeper.errors import StorageUnavailable
from tests.faults.gate import Gate, gated
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


@asynccontextmanager
async def _storage_behind_a_gate(world: World) -> AsyncIterator[list[Gate]]:
    direct = world.storage
    async with gated(direct) as (behind, gates):
        world.storage = behind
        assert world.services
        world.storage = direct
        try:
            yield gates
        finally:
            await world.services.close()
            world._services = None


async def _google(world: World, cluster: LocalCluster, *, on: bool) -> None:
    del cluster
    world.cloud.google_part.faults.clear()
    if on:
        world.cloud.google_part.faults.add(_DOWN)


async def _registry(world: World, cluster: LocalCluster, *, on: bool) -> None:
    del cluster
    world.cloud.registry_parts[0].faults.clear()
    if on:
        world.cloud.registry_parts[0].faults.add(_DOWN)


async def _cluster(world: World, cluster: LocalCluster, *, on: bool) -> None:
    del world
    cluster.part.faults.clear()
    if on:
        cluster.part.faults.add(Fault(path="/secrets/", method="PATCH", status=503))


async def _identity(world: World, cluster: LocalCluster, *, on: bool) -> None:
    """With an instance that is new at every tick, so that no token is left in any process."""
    del cluster
    world.cloud.identity_part.faults.clear()
    if on:
        world.cloud.identity_part.faults.add(_DOWN)
    await world.services.close()
    world._services = world.build_services()


async def _all(world: World, cluster: LocalCluster, *, on: bool) -> None:
    for switch in (_google, _registry, _cluster, _identity):
        await switch(world, cluster, on=on)


_SWITCHES: Final = {
    "google": _google,
    "registry": _registry,
    "cluster": _cluster,
    "identity": _identity,
    "all": _all,
}


async def _expired_minutes(world: World, outage: _Outage, switch: Callable[..., object], minutes: int) -> list[int]:
    """The minutes in which a kubelet would have found a token that the registry does not take any more."""
    cluster = await world.join("aks-1")
    expired: list[int] = []
    token = ""
    for minute in range(minutes):
        if minute % _TICK == 0:
            await switch(world, cluster, on=outage.is_on(minute))  # type: ignore[misc]
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
@pytest.mark.parametrize("who", _SWITCHES)
async def test_no_token_expires_in_25_minutes_of_outage(world: World, who: str, start: int) -> None:
    """Whenever it starts. Afterwards, all is as if it had not been."""
    assert await _expired_minutes(world, _Outage(start, 25), _SWITCHES[who], 120) == []


@pytest.mark.parametrize("start", range(25, 55, 5))
async def test_no_token_expires_in_25_minutes_without_storage(world: World, start: int) -> None:
    async with _storage_behind_a_gate(world) as gates:

        async def storage(world: World, cluster: LocalCluster, *, on: bool) -> None:
            del world, cluster
            for gate in gates:
                (gate.shut if on else gate.open)()

        assert await _expired_minutes(world, _Outage(start, 25), storage, 120) == []


async def test_an_outage_of_45_minutes_does_expire_tokens(world: World) -> None:
    """So the others would notice; and as soon as it is over the secret is good again."""
    expired = await _expired_minutes(world, _Outage(25, 45), _cluster, 120)
    assert expired
    assert max(expired) < 25 + 45 + 30
