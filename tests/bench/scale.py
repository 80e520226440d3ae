"""`python -m tests.bench.scale [CLUSTERS]`: what a large fleet asks of each service, and which limit comes first.

Reads what a refresh costs from build/bench.json. Everything else is stated here, with its source.
"""

import sys
from dataclasses import dataclass
from typing import Any, Final

from pullkeeper.fleet.shards import COUNT
from tests.bench.report import read

_PERIOD: Final = 20 * 60  # seconds between two refreshes: a third of an hour's token
_TICK: Final = 5 * 60  # seconds: a twelfth
_TARGETS: Final = 1
"""Secrets of a cluster."""
_SLOWER: Final = 3.0
"""Times the CPU of this machine and host: Azure's CPUs and Microsoft's .NET host."""
_BUSY: Final = 0.7
"""Of an instance's one CPU, at most."""
_PLATFORM: Final = 150.0
"""MB of worker and imports."""
_CONNECTION: Final = 0.11
"""MB, while it is open."""
_CONNECTIONS: Final = 544
"""At most: the three bounds of pullkeeper/refresh/capacity.py."""
_TLS: Final = 1024 * 0.017
"""MB of TLS contexts: pullkeeper/cluster/connection.py."""
_ENTRY: Final = 40
"""Bytes of an ordinary target in the row of its shard: pullkeeper/fleet/status.py."""
_EVENT: Final = 1.0
"""KB of an event in Application Insights."""


@dataclass(frozen=True, slots=True)
class Limit:
    """load, limit: in unit. change: what to do at the limit. grows: with the fleet."""

    name: str
    load: float
    limit: float
    unit: str
    change: str
    grows: bool = True

    @property
    def share(self) -> float:
        return self.load / self.limit


def model(clusters: int, bench: dict[str, Any]) -> list[Limit]:
    """Return every limit with its load, the nearest first."""
    cpu = _figure(bench, "end_to_end", "host and app") * _SLOWER / 1000  # seconds
    due = clusters * _TICK / _PERIOD
    per_shard, shards_due = clusters / COUNT, COUNT * _TICK / _PERIOD
    memory = _PLATFORM + _CONNECTIONS * _CONNECTION + _TLS
    limits = [
        Limit(
            "CPU of one instance, which takes up to 64 messages and so all shards of a tick",
            due * cpu,
            _TICK * _BUSY,
            "s CPU a tick",
            "smaller `batchSize` and `newBatchThreshold` in host.json, for more instances",
        ),
        Limit(
            "CPU of the refresh of one shard (its own budget is 60 s; then it continues in a further message)",
            per_shard * cpu,
            60,
            "s",
            "`COUNT` in shards.py: 256",
        ),
        Limit(
            "Row of a shard in the table `shards`",
            per_shard * _TARGETS * _ENTRY / 1024,
            960,
            "KiB",
            "`COUNT` in shards.py: 256",
        ),
        Limit(
            "Reads of one table partition (2,000 entities a second)",
            per_shard,
            2000 * 10,
            "entities in 10 s",
            "`COUNT` in shards.py: 256",
        ),
        Limit(
            "Storage account (20,000 requests a second; an entity counts as one)",
            due / _TICK + shards_due * 4 / _TICK,
            20_000,
            "a second",
            "a storage account of its own",
        ),
        Limit("Queue (2,000 messages a second)", shards_due / _TICK * 3, 2000, "a second", "none needed"),
        Limit("Memory of an instance of 512 MB", memory, 512, "MB", "instances of 2,048 MB", grows=False),
        Limit(
            "API server of a cluster (50 writes in flight on AKS's smallest tier)",
            _TARGETS / _PERIOD,
            50,
            "writes a second",
            "none needed",
            grows=False,
        ),
        Limit(
            "Google STS (6,000 exchanges a minute and project), with 10 instances",
            10 / (_TICK / 60),
            6000,
            "a minute and hub",
            "none needed: it grows with instances",
            grows=False,
        ),
        Limit(
            "Azure Resource Manager, where a tenth of the fleet has moved (1 a second for reads of clusters in one "
            "subscription and region, 10 regions)",
            clusters / 10,
            10 * _PERIOD,
            "reads in a period",
            "none needed: they are tried again every sixth of a life",
        ),
        Limit(
            "Application Insights' default daily cap (100 GB): an event per secret and refresh, a status an hour",
            clusters * _TARGETS * (86_400 / _PERIOD + 24) * _EVENT / 1024 / 1024,
            100,
            "GB a day",
            "sampling, or the level WARNING for `pullkeeper`, which leaves out `secret.refreshed`",
        ),
    ]
    return sorted(limits, key=lambda one: -one.share)


def _figure(bench: dict[str, Any], name: str, ending: str) -> float:
    """Return the last figure of a benchmark whose name ends like that."""
    try:
        figures = bench[name]["figures"]
    except KeyError:
        raise SystemExit(f"build/bench.json has no {name}: run `python -m tests.bench {name}` first") from None
    return float([one["value"] for label, one in sorted(figures.items()) if label.endswith(ending)][-1])


def main() -> None:
    clusters = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    print("| What | Load | Limit | Share | Reached at clusters | Then |")
    print("|---|---|---|---|---|---|")
    for one in model(clusters, read()):
        reached = f"{float(f'{clusters / one.share:.2g}'):,.0f}" if one.grows else "does not grow"
        load = f"{one.load:,.3g} {one.unit} | {one.limit:,.6g} | {one.share:.0%}"
        print(f"| {one.name} | {load} | {reached} | {one.change} |")


if __name__ == "__main__":
    main()
