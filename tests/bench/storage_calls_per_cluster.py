"""Calls of a refresh in steady state, counted by the servers: storage, Kubernetes, Azure Resource Manager, mints."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from local.azurite import Azurite
from tests.bench.api_servers import ApiServers
from tests.bench.hosted import HostedFleet, count_calls, open_hosted
from tests.bench.report import Figure

_LIMIT: Final = 0.3
_GROWTH: Final = 1.5
_SMALLER: Final = 4
"""Times fewer clusters, over which the calls of a run stay about the same: they are the shards'."""


@dataclass(frozen=True, slots=True)
class _Calls:
    storage: Counter[str]
    kubernetes: int
    arm: int
    mints: int


async def measure(clusters: int = 1000) -> list[Figure]:
    with ApiServers(clusters) as servers, Azurite(access_log=True) as azurite, Azurite(access_log=True) as another:
        async with open_hosted(azurite, servers, clusters, "calls") as fleet:
            calls = await _count(fleet)
        async with open_hosted(another, servers, clusters // _SMALLER, "calls") as fleet:
            fewer = await _count(fleet)
    ours = calls.storage["app"]
    growth = ours / fewer.storage["app"]
    host = f"{calls.storage['receive']} receives, {calls.storage['delete']} deletes, {calls.storage['other']} other"
    return [
        Figure(
            "storage", ours / clusters, "calls per cluster", _LIMIT, detail=f"{clusters} clusters; the host: {host}"
        ),
        Figure("storage growth", growth, "times", _GROWTH, detail=f"calls of a run over {_SMALLER} times the clusters"),
        Figure("kubernetes", calls.kubernetes / clusters, "calls per secret", 1.0),
        Figure("arm", float(calls.arm), "calls", 0.0),
        Figure("mints", float(calls.mints), "in two runs with one hub", 1.0),
    ]


async def _count(fleet: HostedFleet) -> _Calls:
    """Refresh twice, and count the second time; mints of both, which follow each other within a token's first 1/12."""
    await fleet.refresh()
    await fleet.make_due()
    storage, kubernetes = len(fleet.azurite.requests()), fleet.servers.count_requests()
    await fleet.refresh()
    return _Calls(
        count_calls(fleet.azurite.requests()[storage:]),
        fleet.servers.count_requests() - kubernetes,
        len(fleet.cloud.arm_part.journal.requests),
        fleet.cloud.google.exchanges,
    )
