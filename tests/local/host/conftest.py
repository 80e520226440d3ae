"""Small function apps in folders of their own, hosted in the test's loop or in a process."""

import asyncio
import json
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest

from local.azurite import Azurite
from local.host import Host, Keys

KEYS = Keys(master="the-master-key", default="the-function-key")
BLOBS = {"AzureWebJobsStorage__blobServiceUri": "https://example.invalid"}
"""Where the host finds blobs, so that its timers run."""
PREAMBLE = """
import asyncio
import azure.functions as func
app = func.FunctionApp()
seen = []
"""


@pytest.fixture
def storage(azurite: Azurite, request: pytest.FixtureRequest) -> str:
    """The connection string of an empty storage account."""
    return azurite.account(request.node.nodeid)


@pytest.fixture
def write_app(tmp_path: Path) -> Callable[..., Path]:
    """Writes a function app; `queues` is the section of host.json, `settings` the rest of it."""

    def write(code: str, *, queues: dict[str, Any] | None = None, **settings: Any) -> Path:
        (tmp_path / "function_app.py").write_text(PREAMBLE + textwrap.dedent(code))
        quick = {"maxPollingInterval": "00:00:00.2"}
        document = {"version": "2.0", "extensions": {"queues": quick | (queues or {})}} | settings
        (tmp_path / "host.json").write_text(json.dumps(document))
        return tmp_path

    return write


@pytest.fixture
def fresh_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every hosted app is a module named function_app: each test imports its own."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "function_app", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    sys.modules.pop("function_app", None)


class Hosted:
    """A host with its app's module and a client that knows its address."""

    def __init__(self, host: Host, module: ModuleType, session: aiohttp.ClientSession) -> None:
        self.host = host
        self.module = module
        self.session = session

    @property
    def seen(self) -> list[Any]:
        """What the app recorded."""
        seen: list[Any] = self.module.seen
        return seen

    async def request(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        async with self.session.request(method, self.host.url + path, **options) as response:
            return response.status, await response.text()

    async def get(self, path: str, key: str = "") -> tuple[int, str]:
        return await self.request("GET", path, headers={"x-functions-key": key} if key else {})


@pytest.fixture
async def hosted(fresh_imports: None) -> AsyncIterator[Callable[..., Awaitable[Hosted]]]:  # noqa: ARG001 - an effect
    """Hosts an app until the end of the test."""
    async with AsyncExitStack() as stack:

        async def start(app: Path, environment: dict[str, str] | None = None, **options: Any) -> Hosted:
            return await stack.enter_async_context(hosting(app, environment or {}, **options))

        yield start


@asynccontextmanager
async def hosting(app: Path, environment: dict[str, str], **options: Any) -> AsyncIterator[Hosted]:
    host = Host(app, environment=environment, keys=KEYS, **options)
    await host.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Hosted(host, sys.modules["function_app"], session)
    finally:
        await host.stop()


async def until(condition: Callable[[], Any], within: float = 20.0) -> None:
    """Wait until `condition` holds; fail when it does not in time."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "the condition did not hold in time"
        await asyncio.sleep(0.02)
