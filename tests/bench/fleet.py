"""A fleet to measure: rows in Azurite, API servers in another process, the app's services in this one."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count, islice
from typing import Any

from azure.data.tables.aio import TableServiceClient

from local.azurite import Azurite
from local.clock import Clock
from local.cloud import Cloud
from pullkeeper.fleet.queues import FORMAT, RefreshMessage
from pullkeeper.fleet.shards import COUNT, shard_of
from pullkeeper.fleet.table import columns, entity_keys
from pullkeeper.model import Cluster, ClusterId, Endpoint, Target, Wish
from pullkeeper.services import Services, limit_garbage_collection
from tests.bench.api_servers import ApiServers

SUBSCRIPTION = "00000000-0000-0000-0000-00000000b001"


class Recorded(logging.Handler):
    """When the outcome of each cluster was recorded: seconds of time.monotonic, by cluster."""

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "microsoft.custom_event.name", "") == "secret.refreshed":
            self.at[record.cluster] = time.monotonic()  # type: ignore[attr-defined]


@dataclass(slots=True)
class BenchFleet:
    """clusters: their ids, the nth served by API server n modulo their number."""

    services: Services
    servers: ApiServers
    clock: Clock
    cloud: Cloud
    storage: str
    clusters: list[ClusterId]
    recorded: Recorded = field(default_factory=Recorded)

    async def refresh(self, at_once: int = 16) -> float:
        """Refresh everything that is due, `at_once` messages at a time; return the seconds it took."""
        seen = await self.services.shards.totals()
        due = [one.shard for one in seen.shards if one.next_due <= self.clock()]
        places = asyncio.Semaphore(at_once)

        async def one(shard: str) -> None:
            async with places:
                await self.services.refresher.refresh(RefreshMessage(shard=shard, reason="due"))

        began = time.monotonic()
        await asyncio.gather(*(one(shard) for shard in due))
        return time.monotonic() - began

    def make_due(self) -> None:
        """Let a period pass."""
        self.clock.advance(timedelta(minutes=20, seconds=1))


def _ids(size: int, shards: int) -> list[ClusterId]:
    ids = (ClusterId(SUBSCRIPTION, "fleet", f"aks-{n}") for n in count())
    return list(islice((one for one in ids if int(shard_of(one), 16) < shards), size))


def bench_members(
    servers: ApiServers, size: int, now: datetime, shards: int = COUNT
) -> list[tuple[ClusterId, Endpoint]]:
    """Return clusters with where they are. Where there are more clusters than servers, each has an address of its own
    all the same, so that nothing is cached for two of them.
    """
    endpoints = servers.endpoints
    found = []
    for number, cluster in enumerate(_ids(size, shards)):
        host, server = divmod(number, len(endpoints))
        address = f"https://127.0.0.{1 + host}:{endpoints[server]['port']}"
        found.append((cluster, Endpoint(server=address, ca=endpoints[server]["ca"], read_at=now)))
    return found


async def register(
    tables: TableServiceClient,
    members: Iterable[tuple[ClusterId, Endpoint]],
    due: Any,
    targets: tuple[Wish, ...] = (Target(),),
    hub: str = "main",
) -> None:
    """Write the rows of many clusters at once: what onboarding writes, in transactions."""
    fleet = await tables.create_table_if_not_exists("fleet")
    shards = await tables.create_table_if_not_exists("shards")
    rows: dict[str, list[Any]] = {}
    for cluster, endpoint in members:
        member = Cluster(cluster=cluster, hub=hub, targets=targets)
        cells = {**columns("Member", member.to_json()), **columns("Endpoint", endpoint.to_json())}
        rows.setdefault(shard_of(cluster), []).append({**entity_keys(cluster), "Format": FORMAT, **cells})
    for shard, entities in rows.items():
        for start in range(0, len(entities), 100):
            await fleet.submit_transaction([("upsert", entity) for entity in entities[start : start + 100]])
        row = {"PartitionKey": "shard", "RowKey": shard, "Format": FORMAT, "NextDue": due}
        await shards.upsert_entity({**row, "LifeSeconds": 3600.0, "Clusters": 0, "States": "{}"})


@asynccontextmanager
async def open_fleet(
    azurite: Azurite,
    servers: ApiServers,
    size: int,
    name: str,
    *,
    shards: int = COUNT,
    refreshed: bool = True,
    targets: tuple[Wish, ...] = (Target(),),
) -> AsyncIterator[BenchFleet]:
    """A fleet of this size in a storage account of its own, refreshed once, so that everything is warm.

    shards: how many of them it fills; fewer show what a larger fleet costs per cluster. refreshed: False: do not.
    """
    clock = Clock()
    storage = azurite.account(name)
    async with Cloud(clock) as cloud:
        cloud.add_hub("main")
        environment = cloud.environment(storage)
        os.environ.update(environment)
        members = bench_members(servers, size, clock(), shards)
        clusters = [cluster for cluster, _ in members]
        async with TableServiceClient.from_connection_string(storage) as tables:
            await register(tables, members, clock(), targets)
        services = Services.build(environment, clock)
        limit_garbage_collection()
        fleet = BenchFleet(services, servers, clock, cloud, storage, clusters)
        logger = logging.getLogger("pullkeeper")
        logger.addHandler(fleet.recorded)
        try:
            if refreshed:
                await fleet.refresh()
            yield fleet
        finally:
            logger.removeHandler(fleet.recorded)
            await services.close()
