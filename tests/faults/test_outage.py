"""Promise 1, end to end: no secret expires in 25 minutes of total outage of any service."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import pytest

from local.cloud import GROUP, SUBSCRIPTION, LocalCluster
from local.serving import Fault, Faults
from pullkeeper.errors import StorageUnavailable
from pullkeeper.fleet.shards import shard_of
from pullkeeper.model import ClusterId
from tests.faults.gate import Gates
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers
_DOWN: Final = Fault(status=503)
_TICK: Final = 5
_PERIOD: Final = 20 * MINUTE
"""Between two refreshes of a cluster."""


@dataclass(frozen=True, slots=True)
class _Outage:
    """Minutes, of the virtual clock."""

    start: int
    length: int

    def is_on(self, minute: int) -> bool:
        return self.start <= minute < self.start + self.length


async def _google(world: World, fault: Fault | None) -> None:
    _set(world.cloud.google_part.faults, fault)


async def _registry(world: World, fault: Fault | None) -> None:
    _set(world.cloud.registry_parts[0].faults, fault)


async def _clusters(world: World, fault: Fault | None) -> None:
    for cluster in world.cloud.clusters.values():
        _set(cluster.part.faults, fault and Fault(path="/secrets/", method="PATCH", status=503))


async def _identity(world: World, fault: Fault | None) -> None:
    """A new instance at every tick of the outage, so that no process has a token left."""
    _set(world.cloud.identity_part.faults, fault)
    if fault:
        await world.services.close()
        world._services = world.build_services()


async def _all(world: World, fault: Fault | None) -> None:
    for switch in (_google, _registry, _clusters, _identity):
        await switch(world, fault)


def _set(faults: Faults, fault: Fault | None) -> None:
    faults.clear()
    if fault:
        faults.add(fault)


_Switch = Callable[[World, Fault | None], Awaitable[None]]
_SWITCHES: Final[Mapping[str, _Switch]] = {
    "google": _google,
    "registry": _registry,
    "cluster": _clusters,
    "identity": _identity,
    "all": _all,
}


async def _join_one_for_each_tick(world: World) -> list[LocalCluster]:
    """Add a cluster that is due 3 minutes after now, and others 5 minutes after each other."""
    world.clock.advance(_PERIOD - (world.clock() - datetime.min.replace(tzinfo=UTC)) % _PERIOD + 2 * MINUTE)
    by_shard = {shard_of(ClusterId(SUBSCRIPTION, GROUP, name)): name for name in (f"aks-{n}" for n in range(99))}
    return [await world.join(by_shard[shard]) for shard in ("00", "04", "08", "0c")]


async def _age(world: World, cluster: LocalCluster) -> int:
    """Return the minutes since the cluster's secret was written."""
    written = (await world.target(cluster)).last_success
    assert written
    return round((world.clock() - written) / MINUTE)


async def _expired_minutes(world: World, outage: _Outage, switch: _Switch, minutes: int) -> list[int]:
    """Return the minutes in which a secret of four clusters holds an expired token.

    One is refreshed at each tick of a period, so the outage finds secrets of every age: 5, 10, 15 and 20 minutes.
    """
    clusters = await _join_one_for_each_tick(world)
    expired: list[int] = []
    tokens: list[str] = []
    for minute in range(minutes):
        if minute % _TICK == 0:
            if minute == outage.start:
                assert {await _age(world, cluster) for cluster in clusters} == {5, 10, 15, 20}
            await switch(world, _DOWN if outage.is_on(minute) else None)
            try:
                await world.tick()
            except StorageUnavailable:
                assert outage.is_on(minute)
            tokens = [await world.read_token(cluster) for cluster in clusters]
        if not all(map(world.cloud.google.lookup, tokens)):
            expired.append(minute)
        world.clock.advance(MINUTE)
    return expired


@pytest.mark.parametrize("service", _SWITCHES)
async def test_no_token_expires_in_25_minutes_of_outage(world: World, service: str) -> None:
    """Whenever it starts, and until the last token from before would have expired."""
    assert await _expired_minutes(world, _Outage(25, 25), _SWITCHES[service], 90) == []


async def test_no_token_expires_in_25_minutes_without_storage(world: World, gates: Gates) -> None:
    async def storage(_: World, fault: Fault | None) -> None:
        gates.set("shut" if fault else "open")

    assert await _expired_minutes(world, _Outage(25, 25), storage, 90) == []


async def test_an_outage_of_65_minutes_does_expire_tokens(world: World) -> None:
    """So the tests above can fail. After the outage the secrets are good again."""
    expired = await _expired_minutes(world, _Outage(25, 65), _clusters, 120)
    assert expired
    assert max(expired) < 25 + 65 + 25
