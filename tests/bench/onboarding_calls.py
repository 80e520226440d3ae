"""What one onboarding costs in calls, connections and CPU: the first, the same again, and offboarding."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from local.azurite import Azurite
from local.cloud import LocalCluster
from local.serving import Journal
from pullkeeper.model import ClusterId
from tests.bench.hosted import find_caller
from tests.bench.onboarding import OnboardingApp, open_app
from tests.bench.report import Figure, cpu_seconds_of
from tests.faults.gate import Gates, put_gates

_CALLS: Final = {"first": 55.0, "again": 40.0}
_CONNECTIONS: Final = 4.0
_CPU: Final = {"first": 120.0, "again": 100.0}
"""Milliseconds: half of what they took, measured in this way, when they made 119 and 117 calls."""
_IDLE: Final = 2.0
"""Seconds to measure what the host's polls of the queues take, which are no part of an operation."""
_CLUSTERS: Final = 4
_PATIENCE: Final = 60.0
_SETTLED: Final = 0.3
"""Seconds until the host has deleted the message and its log is written."""


@dataclass(frozen=True, slots=True)
class _Cost:
    """calls, connections: by server. A storage account has one for tables and one for queues."""

    calls: Counter[str]
    connections: Counter[str]
    cpu: float


async def measure(*, quick: bool = False) -> list[Figure]:
    with Azurite() as azurite:
        async with (
            put_gates(azurite.account("onboarding calls")) as (storage, gates),
            open_app(azurite, storage) as app,
        ):
            measure_one = partial(_measure_one, app, gates)
            warm, *clusters = [
                await app.cloud.add_cluster(f"aks-{n}", "main", ready=False) for n in range(1 + _CLUSTERS)
            ]
            for send in (app.onboard, app.onboard, app.offboard):
                await measure_one(warm, send)
            idle = cpu_seconds_of(app.host.pid)
            await asyncio.sleep(_IDLE)
            idle = (cpu_seconds_of(app.host.pid) - idle) / _IDLE
            kinds = {"first": app.onboard, "again": app.onboard, "offboarding": app.offboard}
            return [
                figure
                for kind, send in kinds.items()
                for figure in _summarize(kind, [await measure_one(one, send, idle) for one in clusters], quick=quick)
            ]


def _summarize(kind: str, costs: Sequence[_Cost], *, quick: bool) -> list[Figure]:
    """Report the operation with the most calls and that with the most connections, and the mean of the CPU."""
    calls = max((one.calls for one in costs), key=Counter.total)
    connections = max((one.connections for one in costs), key=lambda counted: max(counted.values()))
    cpu = statistics.fmean(one.cpu for one in costs) * 1000
    limit = None if quick else _CPU.get(kind)
    return [
        Figure(f"{kind}, calls", calls.total(), "calls", _CALLS.get(kind), detail=_by_server(calls)),
        Figure(
            f"{kind}, connections",
            max(connections.values()),
            "to one server",
            _CONNECTIONS,
            detail=_by_server(connections),
        ),
        Figure(f"{kind}, CPU", cpu, "ms", limit, detail=f"host and app, without its polls, mean of {len(costs)}"),
    ]


def _by_server(counted: Counter[str]) -> str:
    return ", ".join(f"{server} {count}" for server, count in counted.most_common())


async def _measure_one(
    app: OnboardingApp,
    gates: Gates,
    cluster: LocalCluster,
    send: Callable[[Sequence[ClusterId]], Awaitable[list[str]]],
    idle: float = 0,
) -> _Cost:
    """gates: before the storage account. idle: the share of a CPU that the host takes without work. Raises RuntimeError
    if the operation does not succeed.
    """
    cloud = app.cloud
    journals: dict[str, Journal] = {
        "Azure Resource Manager": cloud.arm_part.journal,
        "identity endpoint": cloud.identity_part.journal,
        "Google": cloud.google_part.journal,
        "registry": cloud.registry_parts[0].journal,
        "Kubernetes": cluster.part.journal,
    }
    before = {name: len(journal.requests) for name, journal in journals.items()}
    for gate in gates.values():
        gate.requests.clear()
    began, cpu = time.time(), cpu_seconds_of(app.host.pid)
    [address] = await send([cluster.id])
    await app.wait_for("operation.completed", 1, began, _PATIENCE)
    await asyncio.sleep(_SETTLED)
    cpu = cpu_seconds_of(app.host.pid) - cpu - idle * (time.time() - began)
    seen = {name: journal.requests[before[name] :] for name, journal in journals.items()}
    ports = {name: [one.port for one in requests] for name, requests in seen.items()} | {
        f"storage ({name.lower()}s)": [port for port, *call in gate.requests if find_caller(*call) == "app"]
        for name, gate in gates.items()
    }
    calls = Counter({name: len(of_calls) for name, of_calls in ports.items()})
    connections = Counter({name: len({*of_calls}) for name, of_calls in ports.items()})
    [operation] = await app.get_all([address])
    if operation["status"] != "Succeeded":
        raise RuntimeError(f"{operation}")
    return _Cost(+calls, +connections, cpu)
