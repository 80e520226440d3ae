"""CPU of a refresh against bare aiohttp that makes the same PATCHes to the same servers, over as many connections.

The app changes two things for its whole process: how much asyncio reserves for a TLS connection, and how often garbage
is collected. Bare aiohttp runs without these.
"""

import asyncio
import gc
import json
import ssl
import statistics
import sys
from asyncio.sslproto import SSLProtocol
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import aiohttp

from local.azurite import Azurite
from pullkeeper.fleet.shards import COUNT
from tests.bench.api_servers import ApiServers
from tests.bench.fleet import BenchFleet, open_fleet
from tests.bench.report import Figure, cpu_seconds

_LIMIT: Final = 1.4
_ROUNDS: Final = 7
_CONNECTIONS: Final = 96
_MAX_SIZE: Final = 256 * 1024
"""Bytes: `SSLProtocol.max_size` of Python."""
_THRESHOLDS: Final = (2000 if sys.version_info >= (3, 13) else 700, 10, 10)
"""Of Python, for its collections of garbage."""
_PATH: Final = "/api/v1/namespaces/deepintshield/secrets/ar-pull-secret?fieldManager=pullkeeper&force=false"
_HEADERS: Final = {
    "Content-Type": "application/apply-patch+yaml",
    "Accept": "application/json",
    "Authorization": f"Bearer {'x' * 1200}",
}
_BODY: Final = json.dumps(
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "ar-pull-secret", "namespace": "deepintshield"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": "x" * 1000},
    }
)


async def measure(clusters: int = 1000) -> list[Figure]:
    """A fleet below 1,000 fills fewer shards, so that each holds as many clusters as it would of 1,000."""
    with Azurite() as azurite, ApiServers(clusters) as servers:
        contexts = [ssl.create_default_context(cadata=one["ca"]) for one in servers.endpoints]
        shards = min(COUNT, max(1, clusters * COUNT // 1000))
        async with open_fleet(azurite, servers, clusters, "floor", shards=shards) as fleet:
            rounds = [await _round(fleet, servers.endpoints, contexts) for _ in range(_ROUNDS)]
    ours, floor = (statistics.median(column) * 1000 / clusters for column in zip(*rounds, strict=True))
    ratio = statistics.median(mine / its for mine, its in rounds)
    return [
        Figure("ratio", ratio, "times", _LIMIT, detail=f"median of {_ROUNDS} rounds, {clusters} clusters"),
        Figure("refresh", ours, "ms CPU per cluster"),
        Figure("floor", floor, "ms CPU per cluster"),
    ]


async def _round(
    fleet: BenchFleet, endpoints: Sequence[dict[str, Any]], contexts: Sequence[ssl.SSLContext]
) -> tuple[float, float]:
    fleet.make_due()
    fleet.recorded.at.clear()
    ours = await _cpu_of(fleet.refresh())
    with _as_shipped():
        floor = await _cpu_of(_patch_all(endpoints, contexts))
    if len(fleet.recorded.at) != len(fleet.clusters):
        raise RuntimeError(f"{len(fleet.recorded.at)} of {len(fleet.clusters)} clusters were refreshed")
    return ours, floor


@contextmanager
def _as_shipped() -> Iterator[None]:
    tuned = SSLProtocol.max_size, gc.get_threshold()
    SSLProtocol.max_size = _MAX_SIZE
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        SSLProtocol.max_size, thresholds = tuned
        gc.set_threshold(*thresholds)


async def _cpu_of(work: Coroutine[Any, Any, object]) -> float:
    gc.collect()  # what the work before has left
    began = cpu_seconds()
    await work
    return cpu_seconds() - began


async def _patch_all(endpoints: Sequence[dict[str, Any]], contexts: Sequence[ssl.SSLContext]) -> None:
    places = asyncio.Semaphore(_CONNECTIONS)

    async def patch(endpoint: dict[str, Any], context: ssl.SSLContext) -> None:
        url = f"https://127.0.0.1:{endpoint['port']}{_PATH}"
        async with (
            places,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
            session.patch(url, data=_BODY, headers=_HEADERS) as response,
        ):
            await response.read()

    await asyncio.gather(*map(patch, endpoints, contexts))
