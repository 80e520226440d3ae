"""What many targets in a cluster cost: CPU, calls and memory of one cluster with 500 against 500 clusters with one, and
10,000 secrets end to end, 50 in a cluster and one.

`python -m tests.bench.targets CLUSTERS TARGETS` measures one fleet in a process of its own, and prints JSON.
"""

import asyncio
import json
import resource
import statistics
import sys
from datetime import timedelta
from pathlib import Path
from typing import Final

from local.azurite import Azurite
from pullkeeper.fleet.shards import shard_of
from pullkeeper.model import SelectorTarget, Target
from tests.bench.api_servers import LABEL, ApiServers
from tests.bench.fleet import BenchFleet, open_fleet
from tests.bench.hosted import open_hosted
from tests.bench.report import Figure, cpu_seconds

_SECRETS: Final = 500
_CPU_LIMIT: Final = 0.5
_MEMORY_LIMIT: Final = 1.2
_ROUNDS: Final = 5
_CLUSTERS, _TARGETS = 200, 50
_SERVERS: Final = 1000
_SELECTOR: Final = SelectorTarget.parse({"namespaceSelector": {"matchLabels": {LABEL: "yes"}}})
_ROOT: Final = Path(__file__).parents[2]


async def measure() -> list[Figure]:
    many, one = await _measure_apart(1, _SECRETS), await _measure_apart(_SECRETS, 1)
    cpu = f"{many['cpu'] * 1000:.2f} ms per secret against {one['cpu'] * 1000:.2f}"
    memory = f"{many['memory']:.0f} MB against {one['memory']:.0f}"
    return [
        Figure("cpu", many["cpu"] / one["cpu"], "times", _CPU_LIMIT, detail=cpu),
        Figure("memory", many["memory"] / one["memory"], "times", _MEMORY_LIMIT, detail=memory),
        # Each round fails unless it makes one call a secret, and one for the page of namespaces.
        Figure("calls", (_SECRETS + 1) / _SECRETS, "per secret", 1 + 1 / _SECRETS, detail="one page of namespaces"),
        Figure("list", many["list"] * 1000, "ms CPU per tick at which none is due", detail="one call"),
        await _measure_hosted(_CLUSTERS, _TARGETS),
        await _measure_hosted(_CLUSTERS * _TARGETS, 1),
    ]


async def _measure_apart(clusters: int, targets: int) -> dict[str, float]:
    command = (sys.executable, "-m", "tests.bench.targets", str(clusters), str(targets))
    process = await asyncio.create_subprocess_exec(*command, cwd=_ROOT, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the measurement of {clusters} clusters with {targets} targets failed")
    return dict(json.loads(output))


async def _measure_here(clusters: int, targets: int) -> dict[str, float]:
    selects = targets > 1
    with Azurite() as azurite, ApiServers(clusters, targets) as servers:
        wishes = (_SELECTOR,) if selects else (Target(),)
        async with open_fleet(azurite, servers, clusters, "targets", targets=wishes) as fleet:
            rounds = []
            for _ in range(_ROUNDS):
                fleet.make_due()
                rounds.append(await _refresh(fleet, clusters * targets + selects))
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            listing = await _measure_tick(fleet) if selects else 0
    return {"cpu": statistics.median(rounds) / clusters / targets, "list": listing, "memory": memory}


async def _measure_tick(fleet: BenchFleet) -> float:
    """Return the CPU seconds of a tick at which no secret is due, and the namespaces are listed."""
    cluster = fleet.clusters[0]
    status = (await fleet.services.shards.read(shard_of(cluster))).status(cluster)
    fleet.clock.advance(min(one.next_due for one in status.targets.values()) - fleet.clock())
    await fleet.refresh()
    fleet.clock.advance(timedelta(minutes=5))
    return await _refresh(fleet, 1)


async def _refresh(fleet: BenchFleet, calls: int) -> float:
    """Refresh what is due, and return the CPU seconds. Raises RuntimeError if it took another number of calls."""
    began, before = cpu_seconds(), fleet.servers.count_requests()
    await fleet.refresh()
    ended, made = cpu_seconds(), fleet.servers.count_requests() - before
    if made != calls:
        raise RuntimeError(f"{made} calls instead of {calls}")
    return ended - began


async def _measure_hosted(clusters: int, targets: int) -> Figure:
    """Return how many secrets a second the whole app refreshes."""
    wishes = tuple(Target(namespace=f"team-{number:03}") for number in range(targets))
    with Azurite() as azurite, ApiServers(min(clusters, _SERVERS)) as servers:
        async with open_hosted(azurite, servers, clusters, "targets", wishes) as fleet:
            await fleet.refresh()
            await fleet.make_due()
            seconds = await fleet.refresh()
    return Figure(f"{clusters} clusters with {targets}", fleet.size / seconds, "secrets per second")


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_measure_here(int(sys.argv[1]), int(sys.argv[2])))))
