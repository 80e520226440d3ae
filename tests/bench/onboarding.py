"""An app that onboards: its queues in local/host, its storage in Azurite, every other service in this process."""

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
from azure.data.tables.aio import TableServiceClient

from local.azure.arm import ONBOARDER
from local.azurite import Azurite
from local.clock import Clock
from local.cloud import SUBSCRIPTION, Cloud
from local.function_host import HostProcess
from pullkeeper.model import ClusterId

_APP: Final = Path(__file__).parents[2]
_SETTINGS: Final = {
    "REFRESH_SCHEDULE": "0 0 0 1 1 *",  # never: each run is started by hand
    "ONBOARDING_SCOPES": f"/subscriptions/{SUBSCRIPTION}",
    # How long an idle host sleeps is not what is measured.
    "AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:00.200",
}
_AT_ONCE: Final = 100
_COMPRESSED: Final = """
import runpy
from dataclasses import replace

from pullkeeper.azure.quotas import Quotas

call = Quotas.call
Quotas.call = lambda self, quota: call(self, replace(quota, every=quota.every / {factor}))
app = runpy.run_path({app!r})["app"]
"""
"""function_app.py of the app for which time is compressed. It knows the real quotas, and paces its calls by them."""
_EVENT: Final = re.compile(
    r"^\[(?P<at>[\d :,-]+)\] \w+ (?P<event>operation\.completed|secret\.refreshed) .*?cluster=(?P<cluster>\S+)",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Event:
    """at: seconds of time.time(), as the host logged it."""

    at: float
    name: str
    cluster: str


@dataclass(slots=True)
class OnboardingApp:
    """host: the process of local/host with the app."""

    host: HostProcess
    azurite: Azurite
    cloud: Cloud
    tables: TableServiceClient
    _events: list[Event] = field(default_factory=list)
    _read: int = 0

    async def onboard(self, clusters: Sequence[ClusterId]) -> list[str]:
        """Post all at once. Return the address of each operation."""
        bodies = [{"cluster": str(cluster), "hub": "main"} for cluster in clusters]
        return await self._send_all([("POST", "/api/clusters", body) for body in bodies])

    async def offboard(self, clusters: Sequence[ClusterId]) -> list[str]:
        paths = [f"/api/clusters/{one.subscription}/{one.resource_group}/{one.name}" for one in clusters]
        return await self._send_all([("DELETE", path, None) for path in paths])

    async def get_all(self, paths: Sequence[str]) -> list[Any]:
        return await self._send_all([("GET", path, None) for path in paths])

    async def run_timer(self) -> None:
        await self._send_all([("POST", "/admin/functions/schedule", {"input": None})])

    def events(self, name: str, since: float = 0) -> list[Event]:
        """Return the events of that name, in order."""
        with self.host.log.open("rb") as log:
            log.seek(self._read)
            text = log.read()
        end = text.rfind(b"\n") + 1
        self._read += end
        for found in _EVENT.finditer(text[:end].decode(errors="replace")):
            at = datetime.strptime(found["at"], "%Y-%m-%d %H:%M:%S,%f").timestamp()  # noqa: DTZ007 - as logging writes it
            self._events.append(Event(at, found["event"], found["cluster"]))
        return [one for one in self._events if one.name == name and one.at >= since]

    async def wait_for(self, name: str, count: int, since: float, seconds: float) -> list[Event]:
        """Wait for so many events. Raises RuntimeError with the end of the log if they do not come in that time."""
        deadline = time.monotonic() + seconds
        while len(found := self.events(name, since)) < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(found)} of {count} {name} after {seconds:.0f} s:\n{self.host.output[-2000:]}")
            await asyncio.sleep(0.05)
        return found

    async def _send_all(self, requests: Sequence[tuple[str, str, Any]]) -> list[Any]:
        """Return the JSON of each GET, and the address of the operation of the others."""
        headers = {"x-functions-key": self.host.keys.master}
        connector = aiohttp.TCPConnector(limit=_AT_ONCE)
        async with aiohttp.ClientSession(self.host.url, headers=headers, connector=connector) as session:

            async def send(method: str, path: str, body: Any) -> Any:
                async with session.request(method, path, json=body) as response:
                    if not response.ok:
                        raise RuntimeError(f"{method} {path}: HTTP {response.status} {await response.text()}")
                    return await response.json() if method == "GET" else response.headers.get("Location", "")

            return await asyncio.gather(*(send(*request) for request in requests))


def compress_time(folder: Path, factor: int) -> Path:
    """Write an app to that folder: this one, which then takes quotas to refill so many times as fast as on Azure."""
    shutil.copy(_APP / "host.json", folder)
    (folder / "function_app.py").write_text(_COMPRESSED.format(factor=factor, app=str(_APP / "function_app.py")))
    return folder


@asynccontextmanager
async def open_app(azurite: Azurite, storage: str, app: Path = _APP) -> AsyncIterator[OnboardingApp]:
    """The app with a hub, and the right to onboard. storage: the connection string of its storage account. app: its
    directory.
    """
    async with (
        Cloud(Clock()) as cloud,
        TableServiceClient.from_connection_string(storage) as tables,
    ):
        cloud.add_hub("main")
        cloud.arm.assign(cloud.app.principal_id, f"/subscriptions/{SUBSCRIPTION}", ONBOARDER)
        async with HostProcess(app, {**cloud.environment(storage), **_SETTINGS}) as host:
            yield OnboardingApp(host, azurite, cloud, tables)
