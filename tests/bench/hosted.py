"""A fleet that the whole app refreshes: timer, queue and functions in local/host, tables and queues in Azurite."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
from azure.data.tables.aio import TableServiceClient

from local.azurite import Azurite
from local.clock import Clock
from local.cloud import Cloud
from local.function_host import HostProcess
from pullkeeper.fleet.shard_table import Shards, ShardState
from pullkeeper.fleet.status import Status
from pullkeeper.model import Target
from tests.bench.api_servers import ApiServers
from tests.bench.fleet import bench_members, register

_APP: Final = Path(__file__).parents[2]
_NEVER: Final = "0 0 0 1 1 *"
"""A schedule that does not fire: each run is started by hand."""
_COMPLETED: Final = re.compile(r"shard\.completed .* clusters=(\d+) ok=(\d+) ")


@dataclass(slots=True)
class HostedFleet:
    """host: the process of local/host with the app. size: targets."""

    host: HostProcess
    azurite: Azurite
    servers: ApiServers
    cloud: Cloud
    tables: TableServiceClient
    size: int
    _read: int = 0

    async def refresh(self) -> float:
        """Have the timer run, and wait until all is refreshed; return the seconds it took."""
        began = time.monotonic()
        await self._call("POST", "/admin/functions/schedule", json={"input": None})
        refreshed = 0
        while refreshed < self.size:
            if time.monotonic() - began > 120 + self.size / 10:
                raise RuntimeError(
                    f"only {refreshed} of {self.size} clusters were refreshed:\n{self.host.output[-2000:]}"
                )
            await asyncio.sleep(0.2)
            refreshed = sum(int(ok) for _, ok in _COMPLETED.findall(self.host.output[self._read :]))
        self._read = len(self.host.output)
        return time.monotonic() - began

    async def make_due(self) -> None:
        """Make every cluster due, as if a period had passed."""
        now, shards = datetime.now(UTC), Shards(self.tables)

        def change(state: ShardState) -> ShardState:
            return replace(
                state, next_due=now, statuses={id_: make_status_due(one, now) for id_, one in state.statuses.items()}
            )

        for known in (await shards.totals()).shards:
            await shards.update(known.shard, change)

    async def get(self, path: str) -> Any:
        return await self._call("GET", path)

    async def _call(self, method: str, path: str, **body: Any) -> Any:
        headers = {"x-functions-key": self.host.keys.master}
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.request(method, f"{self.host.url}{path}", headers=headers, **body) as response,
        ):
            return await response.json() if method == "GET" else None


@asynccontextmanager
async def open_hosted(
    azurite: Azurite, servers: ApiServers, size: int, name: str, targets: tuple[Target, ...] = (Target(),)
) -> AsyncIterator[HostedFleet]:
    """A fleet of this size, each cluster with these targets, in storage of its own. Nothing has been refreshed yet."""
    clock = Clock()
    storage = azurite.account(name)
    async with Cloud(clock) as cloud, TableServiceClient.from_connection_string(storage) as tables:
        cloud.add_hub("main")
        await register(tables, bench_members(servers, size, clock()), clock(), targets)
        environment = {**cloud.environment(storage), "REFRESH_SCHEDULE": _NEVER}
        async with HostProcess(_APP, environment) as host:
            yield HostedFleet(host, azurite, servers, cloud, tables, size * len(targets))


def make_status_due(status: Status, now: datetime) -> Status:
    targets = {name: one.model_copy(update={"next_due": now}) for name, one in status.targets.items()}
    return status.model_copy(update={"targets": targets})


def count_calls(requests: list[tuple[str, str]]) -> Counter[str]:
    """Count calls to storage by `find_caller`."""
    return Counter(find_caller(method, path) for method, path in requests)


def find_caller(method: str, path: str) -> str:
    """Return whose call to storage it is: `app`, or the host's `receive`, `delete` and `other` (blobs, depths of queues
    that it polls).
    """
    if "/messages" in path:
        return {"GET": "receive", "DELETE": "delete", "POST": "app", "PUT": "other"}[method]
    return "other" if "azure-webjobs" in path else "app"
