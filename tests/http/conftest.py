"""The app hosted once for a module's tests, and one who calls it."""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from local.azure.arm import ONBOARDER
from local.azurite import Azurite
from local.cloud import GROUP, SUBSCRIPTION, LocalCluster
from local.host import HostProcess
from local.serving import Authority
from tests.end_to_end.conftest import Deployed
from tests.world import World, open_world

_PATIENCE = 60
_ENDED = {"Succeeded", "AwaitingFederation", "Failed"}


@dataclass(frozen=True, slots=True)
class Answer:
    """body: JSON, or {} where there is none."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text) if self.text else {}
        return found


@dataclass(frozen=True, slots=True)
class App:
    """The app at its address, the world around it, and a caller with the function key."""

    world: World
    host: HostProcess

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """path: below /api, or with it, sent as it stands. body: bytes go out as they are, all else as JSON. key: None
        sends none, and nothing stands for the right one.
        """
        url = URL(self.host.url + "/api/" + path.removeprefix("/api/"), encoded=True)
        data = body if body is None else io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        sent = {} if key is None else {"x-functions-key": key or self.host.keys.default}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, data=data, headers={**sent, **(headers or {})}) as answer,
        ):
            return Answer(answer.status, dict(answer.headers), await answer.text())

    async def cluster(self, name: str, **options: Any) -> LocalCluster:
        """One that Azure knows, and no more."""
        return await self.world.cloud.add_cluster(name, "main", ready=False, **options)

    async def watched(self, operation: str) -> list[dict[str, Any]]:
        """Every different answer that one who polls gets, up to the end."""
        seen: list[dict[str, Any]] = []
        deadline = time.monotonic() + _PATIENCE
        while not seen or seen[-1]["status"] not in _ENDED:
            assert time.monotonic() < deadline, f"it has not ended: {seen[-1:]}"
            answer = await self.call("GET", operation)
            assert answer.status == 200, answer.text
            if answer.body not in seen[-1:]:
                seen.append(answer.body)
            await asyncio.sleep(0.05)
        return seen

    async def onboarded(self, cluster: LocalCluster, **wanted: Any) -> dict[str, Any]:
        """The operation's last answer."""
        return await self.ended("POST", "clusters", wish(cluster, **wanted))

    async def ended(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = await self.call(method, path, body)
        assert answer.status == 202, answer.text
        return (await self.watched(answer.headers["Location"]))[-1]


@asynccontextmanager
async def hosted(name: str, azurite: Azurite, authority: Authority, **settings: str) -> AsyncIterator[App]:
    """With the timer off, and the resource group of the local cloud open for onboarding."""
    with pytest.MonkeyPatch.context() as patch:
        async with open_world(azurite.account(name), authority, patch) as world, AsyncExitStack() as opened:
            world.cloud.arm.assign(world.cloud.app.principal_id, f"/subscriptions/{SUBSCRIPTION}", ONBOARDER)
            scope = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
            deployed = Deployed(world, opened)
            host = await deployed.host(schedule="0 0 0 1 1 *", **{"ONBOARDING_SCOPES": scope, **settings})
            yield App(world, host)
            await opened.aclose()
            deployed.check()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(request: pytest.FixtureRequest, azurite: Azurite, authority: Authority) -> AsyncIterator[App]:
    async with hosted(request.node.nodeid, azurite, authority) as made:
        yield made


def wish(cluster: LocalCluster, **wanted: Any) -> dict[str, Any]:
    """The body of the call. An identity for each: Azure lets nobody write often below one identity."""
    return {"cluster": str(cluster.id), "hub": "main", "identity": f"{cluster.id.name}-identity", **wanted}


def path_of(cluster: LocalCluster) -> str:
    return f"clusters/{cluster.id.subscription}/{cluster.id.resource_group}/{cluster.id.name}"
