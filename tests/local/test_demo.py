"""`make up`, and its fleet broken and repaired by hand, as the README shows it."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from unittest import mock

import aiohttp
import pytest

from local import control_client
from local.cloud import GROUP, SUBSCRIPTION
from local.hops import HOPS
from pullkeeper.diagnosis.report import HopName
from pullkeeper.model import ClusterId

Hops = Mapping[str, tuple[HopName, str]]
"""Hop and way by the cluster's name."""

BROKEN_BY_THE_DEMO: Final[Hops] = {
    "shop-legacy": ("secret", "conflict"),
    "bank-audit": ("permission", "binding"),
    "bank-edge": ("api-server", "stopped"),
}
CLUSTERS: Final[Hops] = {
    "shop-west": ("cluster-state", "stopped"),
    "shop-north": ("oidc-issuer", "workload-identity"),
    "shop-east": ("authentication", "tenant"),
    "shop-south": ("namespace", "deleted"),
    "shop-lab": ("api-server", "certificate"),
    "bank-west": ("federated-credential", "subject"),
    "bank-north": ("service-account", "annotation"),
    "bank-east": ("credential-config", "missing"),
    "bank-south": ("pods", "without-secret"),
}
REPAIRED_BY_ONBOARDING: Final = ("shop-south", "shop-legacy", "bank-audit")
OF_A_HUB_OR_THE_APP: Final[tuple[Hops, ...]] = (
    {"shop-west": ("token-exchange", "audience"), "bank-west": ("impersonation", "binding")},
    {"shop-west": ("registry-permission", "reader"), "bank-west": ("probe-image", "deleted")},
    {"shop-west": ("managed-identity", "removed")},
    {"shop-west": ("entra-token", "resource")},
)


@dataclass(frozen=True, slots=True)
class Demo:
    """A running demo, as a person with two terminals uses it."""

    environment: Mapping[str, str]
    session: aiohttp.ClientSession

    async def run(self, action: str, cluster: str, hop: str, *way: str) -> None:
        """In a terminal."""
        arguments = (sys.executable, "-m", f"local.{action}", hop, cluster, *way)
        process = await asyncio.create_subprocess_exec(
            *arguments, env=self.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()

    async def ask(self, action: str, cluster: str, hop: str, **way: str) -> None:
        """Do the same in this process, which takes a tenth of the time."""
        lines, worked = await control_client._ask("POST", action, {"hop": hop, "cluster": cluster, **way})
        assert worked, lines

    async def break_all(self, hops: Hops) -> None:
        await asyncio.gather(*(self.ask("break", name, hop, variant=way) for name, (hop, way) in hops.items()))
        await self.check(hops)

    async def check(self, hops: Hops) -> None:
        """Refresh and diagnosis both report these."""
        expected = {name: HOPS[hop][way].category for name, (hop, way) in hops.items()}
        assert await self.refresh(expected) == expected
        assert await self.diagnose(hops) == {name: {hop} for name, (hop, _) in hops.items()}

    async def fix_all(self, hops: Hops) -> None:
        await asyncio.gather(*(self.ask("fix", name, hop) for name, (hop, _) in hops.items()))
        expected = dict.fromkeys(hops)
        assert await self.refresh(expected) == expected
        assert await self.diagnose(hops) == {name: set() for name in hops}

    async def onboard(self, names: Iterable[str]) -> None:
        """Onboard clusters again, as the remedies of their hops say, and wait until they are fresh."""
        for name in names:
            wanted = {
                "cluster": str(ClusterId(SUBSCRIPTION, GROUP, name)),
                "identity": f"{name}-identity",
                "adopt": True,
            }
            wanted["hub"] = "retail" if name.startswith("shop") else "finance"
            (await self.session.post("/api/clusters", json=wanted)).raise_for_status()
        expected = dict.fromkeys(names)
        assert await self.refresh(expected) == expected

    async def refresh(self, expected: Mapping[str, str | None]) -> Mapping[str, str | None]:
        """Refresh the clusters until they are as expected, at most a minute. Return their categories; None: fresh."""
        try:
            async with asyncio.timeout(60):
                while (seen := await self.read_categories(expected)) != expected:
                    for name in expected:
                        if seen[name] != expected[name]:
                            (await self.session.post(f"{_path(name)}/refresh")).raise_for_status()
                    await asyncio.sleep(0.5)
        except TimeoutError:
            pass
        return seen

    async def diagnose(self, names: Iterable[str]) -> dict[str, set[str]]:
        """Return the hops that the diagnosis of each cluster blames."""
        found = {name: await (await self.session.get(f"{_path(name)}/diagnosis")).json() for name in names}
        return {
            name: {hop["name"] for hop in diagnosis["hops"] if hop["state"] in {"warning", "failed"}}
            for name, diagnosis in found.items()
        }

    async def read_categories(self, names: Mapping[str, object]) -> dict[str, str | None]:
        views = {name: await (await self.session.get(_path(name))).json() for name in names}
        return {
            name: None if {*view["states"]} == {"fresh"} else view["worst"]["category"] for name, view in views.items()
        }


@asynccontextmanager
async def run_demo(folder: Path) -> AsyncIterator[Demo]:
    environment = {**os.environ, control_client.SOCKET: str(folder / "socket"), "PYTHONUNBUFFERED": "1"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local.demo", "--keep"), env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        output = ""
        while not (found := re.search(r"PULLKEEPER_URL=(\S+) PULLKEEPER_KEY=(\S+)", output)):
            line = await process.stdout.readline()
            assert line, output
            output += line.decode()
        url, key = found.groups()
        async with aiohttp.ClientSession(url, headers={"x-functions-key": key}) as session:
            with mock.patch.dict(os.environ, environment):
                yield Demo(environment, session)
    finally:
        process.send_signal(signal.SIGINT)
        await process.communicate()


def _path(name: str) -> str:
    return f"/api/clusters/{SUBSCRIPTION}/{GROUP}/{name}"


@pytest.mark.servers
@pytest.mark.timeout(300)
async def test_each_hop_is_broken_reported_by_refresh_and_diagnosis_alike_and_repaired(tmp_path: Path) -> None:
    async with run_demo(tmp_path) as demo:
        await demo.check(BROKEN_BY_THE_DEMO)
        await demo.run("break", "shop-north", "federated-credential", "--as", "subject")
        await demo.run("fix", "shop-north", "federated-credential")
        await demo.break_all(CLUSTERS)
        await demo.onboard(REPAIRED_BY_ONBOARDING)
        await demo.fix_all({**CLUSTERS, **BROKEN_BY_THE_DEMO})
        for hops in OF_A_HUB_OR_THE_APP:
            await demo.break_all(hops)
            await demo.fix_all(hops)
