"""The app as it is deployed: hosted in a process of its own, on Azurite, in the cloud on this machine."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from local.azurite import Azurite
from local.cloud import LocalCluster
from local.function_host import HostProcess, host_process
from local.serving import Authority
from tests.world import World, open_world

_QUICK = {
    "AzureFunctionsJobHost__extensions__queues__visibilityTimeout": "00:00:00.200",
    "AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:00.200",
}
_APP = Path(__file__).parents[2]
_PATIENCE = 40


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `condition` holds; how long it takes does not matter."""
    deadline = time.monotonic() + _PATIENCE
    while not await condition():
        assert time.monotonic() < deadline, "the condition did not hold in time"
        await asyncio.sleep(0.05)


async def read_token(world: World, cluster: LocalCluster) -> str | None:
    """The token in the cluster's secret, None if there is no secret yet."""
    try:
        return await world.read_token(cluster)
    except AssertionError:
        return None


@pytest.fixture
async def world(
    request: pytest.FixtureRequest, azurite: Azurite, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """As everywhere, but at the machine's time, which is that of the processes that host the app."""
    async with open_world(azurite.account(request.node.nodeid), authority, monkeypatch) as world:
        yield world


class Deployed:
    """Starts hosts for the world's app, and ends them. Their output must hold no token."""

    def __init__(self, world: World, opened: AsyncExitStack) -> None:
        self._world = world
        self._opened = opened
        self._hosts: list[HostProcess] = []

    async def host(
        self, *arguments: str, app: str = str(_APP), schedule: str = "* * * * * *", **settings: str
    ) -> HostProcess:
        environment = {**self._world.cloud.environment(self._world.storage), **_QUICK, "REFRESH_SCHEDULE": schedule}
        host = await self._opened.enter_async_context(
            host_process(Path(app), {**environment, **settings}, options=arguments)
        )
        self._hosts.append(host)
        return host

    def check(self) -> None:
        """No token in any log, whatever the test did; no warning of Python's either."""
        log = "\n".join(host.output for host in self._hosts)
        print(log)  # pytest shows it where the test failed
        assert re.findall(r"ya29\.\w+|eyJ[\w-]{20,}|b2F1dGgy\w+", log) == []
        assert re.findall(r"\w*Warning:.*|Unclosed .*|was never awaited", log) == []


@pytest.fixture
async def deployed(world: World) -> AsyncIterator[Deployed]:
    """Hosts for the test; their output is searched at its end."""
    async with AsyncExitStack() as opened:
        made = Deployed(world, opened)
        yield made
        made.check()
