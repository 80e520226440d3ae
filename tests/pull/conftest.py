"""A registry with a real image behind the stand-in's check of the token, in a world with the whole app."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import aiohttp
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from local.google.registry import Registry
from local.process import Process
from local.serving import Server
from tests.apiserver import at_hand
from tests.pull import image
from tests.pull.image import Image
from tests.world import World

PROGRAMS = ("docker-registry", "skopeo")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if "world" in getattr(item, "fixturenames", ()):
        for program in PROGRAMS:
            at_hand.program(program)


@pytest.fixture
async def store() -> AsyncIterator[aiohttp.ClientSession]:
    """Debian's docker-registry, which checks no token, on a private socket."""
    process = Process(at_hand.program("docker-registry"))
    socket = process.folder / "socket"
    configuration = process.folder / "config.json"
    configuration.write_text(
        json.dumps(
            {
                "version": 0.1,
                "storage": {"filesystem": {"rootdirectory": str(process.folder / "images")}},
                "http": {"net": "unix", "addr": str(socket), "relativeurls": True},
            }
        )
    )
    await process.start(["serve", str(configuration)], "http://store/v2/", aiohttp.UnixConnector(str(socket)))
    async with aiohttp.ClientSession("http://store", connector=aiohttp.UnixConnector(str(socket))) as session:
        yield session
    process.stop()


@dataclass(frozen=True, slots=True)
class Hosted:
    """The image and its reference: HOST/PROJECT/REPOSITORY/IMAGE:latest."""

    image: Image
    reference: str


@pytest.fixture
async def hosted(world: World, store: aiohttp.ClientSession) -> AsyncIterator[Hosted]:
    """The hub's image with content. The hub's registry is replaced by one in front of the store."""
    cloud, hub = world.cloud, world.cloud.hubs["main"]
    pushed = image.build(hub.image)
    await pushed.push(store)

    @web.middleware
    async def forward(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Forward allowed pulls to the store; leave the token request and every refusal to the stand-in."""
        allowed = registry.may_pull(request.headers.get("Authorization", ""), hub.image)
        if not allowed or not request.path.startswith(f"/v2/{hub.image}/"):
            return await handler(request)
        headers = {"Accept": request.headers.get("Accept", "*/*")}
        async with store.request(request.method, request.path, headers=headers) as answer:
            forwarded = {name: answer.headers[name] for name in _FORWARDED if name in answer.headers}
            return web.Response(status=answer.status, body=await answer.read(), headers=forwarded)

    registry = Registry(cloud.google, world.clock, middlewares=[forward])
    registry.add_image(hub.image, "latest")
    registry.grant(hub.image.rpartition("/")[0], f"serviceAccount:{hub.service_account}")
    server = Server(registry.application, authority=cloud.authority)
    await server.start()
    cloud._registry_servers.append(server)
    document = {**hub.document, "registries": [server.host], "probe": f"{server.host}/{hub.image}:latest"}
    cloud.hubs["main"] = replace(hub, document=document)
    yield Hosted(pushed, f"{server.host}/{hub.image}:latest")
    await server.stop()


_FORWARDED = ("Content-Type", "Docker-Content-Digest")
