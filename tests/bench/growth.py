"""What ten times the clusters cost: CPU per cluster and peak memory of a refresh, and CPU of the scheduler's run.

`python -m tests.bench.growth SIZE` measures one size in a process of its own, and prints JSON.
"""

import asyncio
import json
import resource
import statistics
import sys
from pathlib import Path
from typing import Final

from local.azurite import Azurite
from tests.bench.api_servers import ApiServers
from tests.bench.fleet import BenchFleet, open_fleet
from tests.bench.report import Figure, cpu_seconds

_CPU_LIMIT: Final = 1.1
_MEMORY_LIMIT: Final = 1.3
_SCHEDULE_LIMIT: Final = 2.0
_ROUNDS: Final = 3
_SCHEDULES: Final = 5
_SERVERS: Final = 1000
_FEW: Final = 100
_ROOT: Final = Path(__file__).parents[2]


async def measure(clusters: int = 1000) -> list[Figure]:
    small, large, few = [await _measure_apart(size) for size in (clusters, 10 * clusters, _FEW)]
    sizes = f"{10 * clusters} clusters against {clusters}"
    cpu = f"{large['cpu'] * 1000:.2f} ms per cluster against {small['cpu'] * 1000:.2f}; {sizes}"
    memory = f"{large['memory']:.0f} MB against {small['memory']:.0f}; {sizes}"
    schedule = (
        f"{large['schedule'] * 1000:.0f} ms against {few['schedule'] * 1000:.0f}; {10 * clusters} due against {_FEW}"
    )
    return [
        Figure("cpu", large["cpu"] / small["cpu"], "times", _CPU_LIMIT, detail=cpu),
        Figure("memory", large["memory"] / small["memory"], "times", _MEMORY_LIMIT, detail=memory),
        Figure("schedule", large["schedule"] / few["schedule"], "times", _SCHEDULE_LIMIT, detail=schedule),
    ]


async def _measure_apart(size: int) -> dict[str, float]:
    command = (sys.executable, "-m", "tests.bench.growth", str(size))
    process = await asyncio.create_subprocess_exec(*command, cwd=_ROOT, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the measurement of {size} clusters failed")
    return dict(json.loads(output))


async def _measure_here(size: int) -> dict[str, float]:
    with Azurite() as azurite, ApiServers(min(size, _SERVERS)) as servers:
        async with open_fleet(azurite, servers, size, "growth") as fleet:
            cpu = statistics.median([await _refresh(fleet) for _ in range(_ROUNDS)])
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            schedule = statistics.median([await _schedule(fleet) for _ in range(_SCHEDULES)])
    return {"cpu": cpu, "memory": memory, "schedule": schedule}


async def _refresh(fleet: BenchFleet) -> float:
    fleet.make_due()
    fleet.recorded.at.clear()
    began = cpu_seconds()
    await fleet.refresh()
    if len(fleet.recorded.at) != len(fleet.clusters):
        raise RuntimeError(f"{len(fleet.recorded.at)} of {len(fleet.clusters)} clusters were refreshed")
    return (cpu_seconds() - began) / len(fleet.clusters)


async def _schedule(fleet: BenchFleet) -> float:
    fleet.make_due()
    began = cpu_seconds()
    await fleet.services.scheduler.run()
    return cpu_seconds() - began


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_measure_here(int(sys.argv[1])))))
