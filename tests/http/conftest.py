"""The app, hosted once for a module's tests, and its HTTP client."""

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping
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
from local.function_host import HostProcess
from local.serving import Authority
from tests.end_to_end.conftest import Deployed
from tests.world import World, open_world

_PATIENCE = 60
_ENDED = {"Succeeded", "AwaitingFederation", "Failed"}


@dataclass(frozen=True, slots=True)
class Response:
    """body: JSON, or {} if it is empty."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.text) if self.text else {}
        return body


@dataclass(frozen=True, slots=True)
class App:
    """The hosted app, the world around it, and a client with the function key."""

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
    ) -> Response:
        """Send a request. path: below /api or with it, not encoded again. body: bytes are sent as they are, everything
        else as JSON. key: None sends none, and the empty default sends the right one.
        """
        url = URL(self.host.url + "/api/" + path.removeprefix("/api/"), encoded=True)
        data = body if body is None else io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        sent = {} if key is None else {"x-functions-key": key or self.host.keys.default}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, data=data, headers={**sent, **(headers or {})}) as response,
        ):
            return Response(response.status, dict(response.headers), await response.text())

    async def add_cluster(self, name: str, **options: Any) -> LocalCluster:
        """Add a cluster that only Azure knows: it is not onboarded."""
        return await self.world.cloud.add_cluster(name, "main", ready=False, **options)

    async def poll(self, operation: str) -> list[dict[str, Any]]:
        """Poll an operation until it ends; return each different state."""
        states: list[dict[str, Any]] = []
        deadline = time.monotonic() + _PATIENCE
        while not states or states[-1]["status"] not in _ENDED:
            assert time.monotonic() < deadline, f"the operation has not ended: {states[-1:]}"
            response = await self.call("GET", operation)
            assert response.status == 200, response.text
            if response.body not in states[-1:]:
                states.append(response.body)
            await asyncio.sleep(0.05)
        return states

    async def onboard(self, cluster: LocalCluster, **fields: Any) -> dict[str, Any]:
        """Onboard a cluster and return the operation as it ended."""
        return await self.run_operation("POST", "clusters", onboarding_body(cluster, **fields))

    async def run_operation(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        response = await self.call(method, path, body)
        assert response.status == 202, response.text
        return (await self.poll(response.headers["Location"]))[-1]


@asynccontextmanager
async def host_app(
    name: str, azurite: Azurite, authority: Authority, *, hubs: Iterable[str] = (), **settings: str
) -> AsyncIterator[App]:
    """Host the app. The timer is off, and the resource group of the local cloud is allowed for onboarding.

    hubs: beside `main`.
    """
    with pytest.MonkeyPatch.context() as patch:
        async with open_world(azurite.account(name), authority, patch) as world, AsyncExitStack() as opened:
            for hub in hubs:
                world.cloud.add_hub(hub)
            world.cloud.arm.assign(world.cloud.app.principal_id, f"/subscriptions/{SUBSCRIPTION}", ONBOARDER)
            scope = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
            deployed = Deployed(world, opened)
            host = await deployed.host(schedule="0 0 0 1 1 *", **{"ONBOARDING_SCOPES": scope, **settings})
            yield App(world, host)
            await opened.aclose()
            deployed.check()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(request: pytest.FixtureRequest, azurite: Azurite, authority: Authority) -> AsyncIterator[App]:
    async with host_app(request.node.nodeid, azurite, authority) as app:
        yield app


def onboarding_body(cluster: LocalCluster, **fields: Any) -> dict[str, Any]:
    """The body of `POST /api/clusters`. Each cluster has an identity of its own, because Azure limits the rate of
    writes to the credentials of one identity.
    """
    return {"cluster": str(cluster.id), "hub": "main", "identity": f"{cluster.id.name}-identity", **fields}


def cluster_path(cluster: LocalCluster) -> str:
    return f"clusters/{cluster.id.subscription}/{cluster.id.resource_group}/{cluster.id.name}"


def principal(*roles: str, kind: str = "roles") -> dict[str, str]:
    """The header that Easy Auth adds for a caller with these claims."""
    claims = [{"typ": kind, "val": role} for role in roles]
    return principal_header({"auth_typ": "aad", "role_typ": "roles", "claims": claims})


def principal_header(document: object) -> dict[str, str]:
    return {"X-MS-CLIENT-PRINCIPAL": base64.b64encode(json.dumps(document).encode()).decode()}
