"""CPU of a page of `GET /api/clusters` in a large fleet."""

import time
import uuid
from dataclasses import replace
from datetime import timedelta
from functools import partial

from local.azurite import Azurite
from pullkeeper.fleet.overview import FleetPage
from pullkeeper.fleet.shards import shard_of
from pullkeeper.fleet.status import Status, TargetStatus
from pullkeeper.model import ClusterId, Target
from pullkeeper.version import VERSION
from tests.bench.api_servers import ApiServers
from tests.bench.fleet import BenchFleet, open_fleet
from tests.bench.report import Figure, cpu_seconds


async def measure(clusters: int = 10_000) -> list[Figure]:
    with Azurite() as azurite, ApiServers(1) as servers:
        async with open_fleet(azurite, servers, clusters, "pages", refreshed=False) as fleet:
            await _record(fleet)
            began, cpu = time.monotonic(), cpu_seconds()
            pages = await _read_all(fleet)
            cpu, seconds = cpu_seconds() - cpu, time.monotonic() - began
    detail = f"{clusters} clusters, {pages} pages"
    return [
        Figure("cpu", cpu / pages * 1000, "ms CPU per page of 100", detail=detail),
        Figure("time", seconds / pages * 1000, "ms per page of 100"),
    ]


async def _read_all(fleet: BenchFleet) -> int:
    pages, seen, continuation = 0, 0, None
    while continuation or not pages:
        found, continuation = await fleet.services.overview.page(None, continuation)
        FleetPage(version=VERSION, clusters=found, continuation=continuation).to_json()
        seen += len(found)
        pages += 1
    if seen != len(fleet.clusters):
        raise RuntimeError(f"the pages have {seen} of {len(fleet.clusters)} clusters")
    return pages


async def _record(fleet: BenchFleet) -> None:
    """Give every cluster the status that a refresh leaves."""
    now = fleet.clock()
    fresh = TargetStatus(uid=str(uuid.uuid4()), issued_at=now, expires_at=now + timedelta(hours=1), last_success=now)
    shards: dict[str, dict[ClusterId, Status]] = {}
    for cluster in fleet.clusters:
        shards.setdefault(shard_of(cluster), {})[cluster] = Status(targets={str(Target()): fresh})
    for shard, statuses in shards.items():
        await fleet.services.shards.update(shard, partial(replace, statuses=statuses))
