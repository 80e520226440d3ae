"""A fleet that is onboarded at once, against what Azure's quotas allow, while the rest of the fleet is refreshed.

The clusters are in five resource groups of one subscription and region. The quotas have their real values, and time is
compressed: each is refilled sooner, for the app too, and a Retry-After is shorter with it. quick: with small bursts, so
that a small fleet has to wait too.
"""

import asyncio
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from local.azurite import Azurite
from local.cloud import LocalCluster
from pullkeeper.fleet.shard_table import Shards, ShardState
from pullkeeper.model import ClusterId
from tests.bench.api_servers import ApiServers
from tests.bench.fleet import bench_members, register
from tests.bench.hosted import make_status_due
from tests.bench.onboarding import OnboardingApp, compress_time, open_app
from tests.bench.report import Figure, cpu_seconds, cpu_seconds_of, peak_memory_of

_COMPRESSION: Final = 3
_GROUPS: Final = 5
_QUICK_CLUSTERS: Final = 60
_QUICK_BURST: Final = 10
_REFRESHED: Final = 100
_SHARDS: Final = 8
"""Of the clusters that are refreshed: few, because Azurite stops answering after some 5,000 messages."""
_ROUNDS: Final = 5
_PAUSE: Final = 15.0
"""Seconds between two rounds during the onboarding."""
_PATIENCE: Final = 60.0
_LONGEST: Final = 3
"""Times the shortest possible time, after which the measurement fails."""
_TIME, _MEMORY, _MESSAGES, _P99, _CONNECTIONS = 1.2, 256.0, 4.0, 1.5, 4.0


async def measure(clusters: int = 1000, *, quick: bool = False) -> list[Figure]:
    count = _QUICK_CLUSTERS if quick else clusters
    with ExitStack() as opened:
        azurite = opened.enter_context(Azurite(access_log=True))
        folder = opened.enter_context(tempfile.TemporaryDirectory())
        compressed = compress_time(Path(folder), _COMPRESSION)
        async with open_app(azurite, azurite.account("fleet onboarding"), compressed) as app:
            for limit in app.cloud.arm.quotas:
                limit.refill /= _COMPRESSION
                limit.burst = min(limit.burst, _QUICK_BURST) if quick else limit.burst
            if quick:
                fleet = [await _add_cluster(app, number) for number in range(count)]
                return await _measure_onboarding(app, fleet, None)
            servers = opened.enter_context(ApiServers(_REFRESHED))
            refreshed = bench_members(servers, _REFRESHED, app.cloud.clock(), _SHARDS)
            await register(app.tables, refreshed, app.cloud.clock())
            refresh = _Refresh(app, frozenset(cluster for cluster, _ in refreshed))
            fleet = [await _add_cluster(app, number) for number in range(count)]
            return await _measure_onboarding(app, fleet, refresh)


async def _add_cluster(app: OnboardingApp, number: int) -> LocalCluster:
    return await app.cloud.add_cluster(f"aks-{number}", "main", group=f"shop-{number % _GROUPS}", ready=False)


@dataclass(frozen=True, slots=True)
class _Refresh:
    """Refreshes these clusters again and again."""

    app: OnboardingApp
    clusters: frozenset[ClusterId]

    async def measure(self) -> float:
        """Make all due, run the timer, and return the seconds after which 99 % were refreshed."""
        now, shards = self.app.cloud.clock(), Shards(self.app.tables)

        def change(state: ShardState) -> ShardState:
            own = {id_: make_status_due(one, now) for id_, one in state.statuses.items() if id_ in self.clusters}
            return replace(state, next_due=now, statuses={**state.statuses, **own})

        for shard in range(_SHARDS):
            await shards.update(f"{shard:02x}", change)
        began = time.time()
        await self.app.run_timer()
        names = {str(cluster) for cluster in self.clusters}
        seconds: dict[str, float] = {}
        while len(seconds) < len(names):
            if time.time() - began > _PATIENCE:
                raise RuntimeError(f"{len(seconds)} of {len(names)} clusters were refreshed in {_PATIENCE:.0f} s")
            await asyncio.sleep(0.05)
            for event in self.app.events("secret.refreshed", began):
                if event.cluster in names:
                    seconds.setdefault(event.cluster, event.at - began)
        return sorted(seconds.values())[round(0.99 * len(seconds)) - 1]

    async def measure_until(self, ended: asyncio.Event) -> list[float]:
        found = []
        while not ended.is_set():
            found.append(await self.measure())
            await asyncio.wait([asyncio.create_task(ended.wait())], timeout=_PAUSE)
        return found


async def _measure_onboarding(
    app: OnboardingApp, fleet: Sequence[LocalCluster], refresh: _Refresh | None
) -> list[Figure]:
    if refresh:
        await refresh.measure()
    without = [await refresh.measure() for _ in range(_ROUNDS)] if refresh else []
    floor = _shortest(app, len(fleet))
    requests, ended = len(app.azurite.requests()), asyncio.Event()
    before = _read_cpu(app)
    meanwhile = asyncio.create_task(refresh.measure_until(ended)) if refresh else None
    began = time.time()
    addresses = await app.onboard([cluster.id for cluster in fleet])
    patience = floor.total_seconds() * _LONGEST + _PATIENCE
    completed = await app.wait_for("operation.completed", len(fleet), began, patience)
    seconds = max(event.at for event in completed) - began
    cpu, servers = (
        (after - earlier) / len(fleet) * 1000 for after, earlier in zip(_read_cpu(app), before, strict=True)
    )
    ended.set()
    with_onboarding = await meanwhile if meanwhile else []
    sent = Counter(app.azurite.requests()[requests:])
    messages = sum(n for (method, path), n in sent.items() if method == "POST" and "/onboarding/messages" in path)
    figures = [
        _succeeded(await app.get_all(addresses)),
        Figure("messages", messages / len(fleet), "per operation", _MESSAGES),
        *_count_calls(app, fleet),
        Figure(
            "time",
            seconds / floor.total_seconds(),
            "times what the tightest quota allows",
            _TIME if refresh else None,
            detail=f"{seconds:.0f} s against {floor.total_seconds():.0f} s, time compressed by {_COMPRESSION}",
        ),
        Figure("memory", peak_memory_of(app.host.pid), "MB at most", _MEMORY if refresh else None),
        Figure(
            "CPU", cpu, "ms per operation", detail=f"host and app, with its refreshes; all other servers {servers:.0f}"
        ),
    ]
    if refresh:
        apart, together = statistics.median(without), statistics.median(with_onboarding)
        detail = f"p99 of {_REFRESHED} clusters: {together:.2f} s, without {apart:.2f} s; {len(with_onboarding)} rounds"
        figures.append(Figure("refresh meanwhile", together / apart, "times", _P99, detail=detail))
    return figures


def _read_cpu(app: OnboardingApp) -> tuple[float, float]:
    """Return the seconds that host and app have used, and those of Azurite and this process, which plays the others."""
    return cpu_seconds_of(app.host.pid), cpu_seconds_of(app.azurite.pid) + cpu_seconds()


def _shortest(app: OnboardingApp, count: int) -> timedelta:
    """Return the time that the quotas take for one credential call and one new identity per cluster."""
    limits = app.cloud.arm.clusters.others, app.cloud.arm.identities.creations
    return max((count - limit.burst) * limit.refill for limit in limits)


def _succeeded(operations: Sequence[Any]) -> Figure:
    failed = Counter(
        step["category"]
        for one in operations
        if one["status"] != "Succeeded"
        for step in one["steps"]
        if step["category"]
    )
    share = sum(one["status"] == "Succeeded" for one in operations) / len(operations)
    return Figure(
        "succeeded", share, "of all", 1.0, at_least=True, detail=f"{len(operations)} clusters; failed: {dict(failed)}"
    )


def _count_calls(app: OnboardingApp, fleet: Sequence[LocalCluster]) -> list[Figure]:
    arm = app.cloud.arm_part.journal.requests
    refused = sum(one.status == 429 for one in arm)
    ports = [len({one.port for one in cluster.part.journal.requests}) - 1 for cluster in fleet]
    kubernetes = sum(len(cluster.part.journal.requests) - 1 for cluster in fleet)
    return [
        Figure("Azure Resource Manager", len(arm) / len(fleet), "calls per cluster", detail=f"{refused} were refused"),
        Figure("Kubernetes", kubernetes / len(fleet), "calls per cluster"),
        Figure("connections", max(ports), "to one cluster", _CONNECTIONS),
    ]
