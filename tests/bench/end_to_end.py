"""Clusters per second through timer, queue, storage and host, and which process the CPU goes to."""

import os
from typing import Final

from local.azurite import Azurite
from tests.bench.api_servers import ApiServers
from tests.bench.hosted import HostedFleet, open_hosted
from tests.bench.report import Figure, cpu_seconds, cpu_seconds_of

_SERVERS: Final = 1000
_ROUNDS: Final = 3


async def measure(clusters: int = 1000) -> list[Figure]:
    figures = []
    for size in (clusters, 10 * clusters):
        # One Azurite for each size: it stops answering after some 5,000 messages.
        with Azurite() as azurite, ApiServers(min(size, _SERVERS)) as servers:
            async with open_hosted(azurite, servers, size, "end to end") as fleet:
                await fleet.refresh()
                rounds = [await _measure_round(fleet) for _ in range(_ROUNDS)]
        best = min(rounds, key=lambda figures: figures[0])
        seconds, *cpu = best
        figures.append(
            Figure(f"{size} clusters", size / seconds, "clusters per second", detail=f"{os.cpu_count()} CPUs")
        )
        names = ("host and app", "storage", "API servers", "identity, Google, registry")
        for name, used in zip(names, cpu, strict=True):
            figures.append(Figure(f"{size} clusters, {name}", used / size * 1000, "ms CPU per cluster"))
    return figures


async def _measure_round(fleet: HostedFleet) -> tuple[float, ...]:
    """Return the seconds of a run, and the CPU seconds of each process."""
    await fleet.make_due()
    before = _used(fleet)
    seconds = await fleet.refresh()
    return seconds, *(after - earlier for after, earlier in zip(_used(fleet), before, strict=True))


def _used(fleet: HostedFleet) -> list[float]:
    processes = (fleet.host.pid, fleet.azurite.pid, fleet.servers.pid)
    return [*map(cpu_seconds_of, processes), cpu_seconds()]
