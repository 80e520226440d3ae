"""How long healthy clusters wait where others do not respond: p99, from the message's arrival to the recorded outcome.

A silent cluster takes a request and never responds, drops the connection's packets, refuses it, or has a name whose
look-up hangs. Each case is measured when they fall silent, and once the app knows it.
"""

import asyncio
import socket
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

from azure.data.tables.aio import TableServiceClient

from local.azurite import Azurite
from pullkeeper.model import Endpoint
from tests.bench.api_servers import ApiServers
from tests.bench.fleet import BenchFleet, open_fleet, register
from tests.bench.report import Figure

_LIMIT: Final = 1.2
_ROUNDS: Final = 3
_MESSAGES: Final = 64
"""At once: `batchSize` and `newBatchThreshold` of host.json."""
_QUIET: Final = timedelta(seconds=60)
_HANGS: Final = 10.0
"""Seconds: the resolver's default is two tries of five."""
_SUFFIX: Final = ".silent.example"


async def measure(clusters: int = 1000) -> list[Figure]:
    figures = []
    with Azurite() as azurite, ApiServers(clusters) as servers, _black_hole() as hole, _hanging_look_ups():
        closed = _closed_port()
        cases: dict[str, Callable[[int], Endpoint | None]] = {
            "after TLS": lambda _: None,
            "black-holed": lambda n: _endpoint(servers, n, f"https://127.0.0.1:{hole}"),
            "refusing": lambda n: _endpoint(servers, n, f"https://127.0.0.1:{closed}"),
            "hanging DNS": lambda n: _endpoint(servers, n, f"https://aks-{n}{_SUFFIX}"),
        }
        for share in (0.05, 0.3):
            silent = range(0, clusters, round(1 / share))
            for name, place in cases.items():
                case = f"{name} {share:.0%}"
                async with open_fleet(azurite, servers, clusters, case) as fleet:
                    figures += await _compare(case, fleet, set(silent), place)
        async with open_fleet(azurite, servers, clusters, "slow storage") as fleet:
            figures += await _slow_storage(fleet)
    return figures


async def _compare(
    case: str, fleet: BenchFleet, silent: set[int], place: Callable[[int], Endpoint | None]
) -> list[Figure]:
    """Measure with none silent, then twice with these: when they fall silent, and once that is known."""
    healthy = {str(cluster) for n, cluster in enumerate(fleet.clusters) if n not in silent}
    none = statistics.median([await _p99(fleet, healthy) for _ in range(_ROUNDS)])
    moved = {fleet.clusters[n]: endpoint for n in silent if (endpoint := place(n))}
    fleet.servers.set_modes(dict.fromkeys(silent, "silent"))
    async with TableServiceClient.from_connection_string(fleet.storage) as tables:
        await register(tables, moved.items(), fleet.clock())
    first = await _p99(fleet, healthy, to_the_end=True)
    known = statistics.median([await _p99(fleet, healthy) for _ in range(_ROUNDS)])
    fleet.servers.set_modes(dict.fromkeys(silent, "healthy"))
    detail = f"p99 {{:.2f}} s against {none:.2f} s with none"
    return [
        Figure(f"{case}, new", first / none, "times", _LIMIT, detail=detail.format(first)),
        Figure(f"{case}, known", known / none, "times", _LIMIT, detail=detail.format(known)),
    ]


async def _p99(fleet: BenchFleet, healthy: set[str], *, to_the_end: bool = False) -> float:
    """Refresh all, and return the seconds after which 99 % of the healthy clusters were recorded. to_the_end: wait
    until the silent ones are recorded too.
    """
    fleet.make_due()
    fleet.recorded.at.clear()
    began = time.monotonic()
    refresh = asyncio.create_task(fleet.refresh(at_once=_MESSAGES))
    while len(healthy & fleet.recorded.at.keys()) < len(healthy):
        if time.monotonic() - began > _QUIET.total_seconds() * 5:
            raise RuntimeError(f"{len(healthy - fleet.recorded.at.keys())} healthy clusters were not refreshed")
        await asyncio.sleep(0.05)
    seconds = sorted(fleet.recorded.at[one] - began for one in healthy)
    if not to_the_end:
        refresh.cancel()
    await asyncio.gather(refresh, return_exceptions=True)
    return seconds[round(0.99 * len(seconds)) - 1]


async def _slow_storage(fleet: BenchFleet) -> list[Figure]:
    """One storage call in ten takes two seconds."""
    healthy = set(map(str, fleet.clusters))
    none = statistics.median([await _p99(fleet, healthy) for _ in range(_ROUNDS)])
    table: Any = fleet.services.shards
    calls = 0
    save: Callable[..., Awaitable[Any]] = table.save

    async def save_slowly(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        await asyncio.sleep(2 if calls % 10 == 0 else 0)
        return await save(*args)

    table.save = save_slowly
    slow = statistics.median([await _p99(fleet, healthy) for _ in range(_ROUNDS)])
    table.save = save
    return [Figure("slow storage", slow / none, "times", detail=f"p99 {slow:.2f} s against {none:.2f} s")]


def _endpoint(servers: ApiServers, number: int, address: str) -> Endpoint:
    now = time.time()
    ca = servers.endpoints[number % len(servers.endpoints)]["ca"]
    return Endpoint.model_validate({"server": address, "ca": ca, "read_at": now})


@contextmanager
def _black_hole() -> Iterator[int]:
    """A port whose queue of connections is full: the kernel drops what arrives, as a firewall does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)  # noqa: FBT003 - as socket has it
            one.connect_ex(("127.0.0.1", port))
        yield port
        for one in waiting:
            one.close()


def _closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def _hanging_look_ups() -> Iterator[None]:
    """Have the look-up of a silent name last as long as with a resolver that gets no response."""
    look_up = socket.getaddrinfo

    def hang(host: Any, *args: Any, **named: Any) -> Any:
        if str(host).endswith(_SUFFIX):
            time.sleep(_HANGS)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return look_up(host, *args, **named)

    socket.getaddrinfo = hang
    try:
        yield
    finally:
        socket.getaddrinfo = look_up
