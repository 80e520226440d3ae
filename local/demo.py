"""`make demo`: a fleet on this machine. It is onboarded over HTTP and refreshed by the timer; hops are broken; secrets
are deleted and edited, repaired, and checked against the registries; one cluster is offboarded. `make up` keeps the
fleet running, to break and repair it by hand.

The app runs as on Azure, with an identity each to refresh, to onboard and for storage. Only time is shortened: the hubs
ask for tokens of less than a minute, and all times in Pullkeeper are fractions of a token's life.
"""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, cast

import aiohttp
from azure.data.tables.aio import TableServiceClient
from rich.console import Console
from rich.table import Table

from local.administrator import ApiServer
from local.azure.credential import LocalCredential
from local.azurite import Azurite
from local.breaks.cluster import OLD_SECRET
from local.clock import Clock
from local.cloud import SUBSCRIPTION, Cloud
from local.control import Control
from local.function_host import HostProcess, host_process
from local.hops import find_break
from local.kubernetes.apiserver import Etcd, Issuer, RealApiServer, binaries
from local.process import Folder
from local.pull_check import can_pull
from local.serving import Authority
from pullkeeper.diagnosis.report import HopName
from pullkeeper.fleet.shard_table import Shards
from pullkeeper.fleet.status import TargetStatus

_APP: Final = Path(__file__).resolve().parent.parent
_TOKEN_LIFE: Final = 36
"""Seconds. A refresh is due after 13 to 15 of them."""
_TIME_LIMIT: Final = 300.0
"""Seconds: the demo fails if a step is not reached by then."""
_SCOPE: Final = f"/subscriptions/{SUBSCRIPTION}"
_COLOURS: Final = {"fresh": "green", "stale": "yellow", "pending": "yellow", "expired": "red"}
_SECRET: Final = ("deepintshield", "ar-pull-secret")


@dataclass(frozen=True, slots=True)
class Planned:
    """A cluster of the demo. hop: what breaks after it was onboarded; None for clusters that end fresh."""

    name: str
    hub: str
    hop: HopName | None = None


CLUSTERS: Final = (
    *(Planned(f"shop-{place}", "retail") for place in ("west", "north", "east", "south", "lab")),
    Planned("shop-legacy", "retail", "secret"),
    *(Planned(f"bank-{region}", "finance") for region in ("west", "north", "east", "south")),
    Planned("bank-audit", "finance", "permission"),
    Planned("bank-edge", "finance", "api-server"),
)
_HEALTHY: Final = tuple(cluster.name for cluster in CLUSTERS if not cluster.hop)
_BROKEN: Final = {cluster.name: find_break(cluster.hop).category for cluster in CLUSTERS if cluster.hop}


@dataclass(slots=True)
class Demo:
    console: Console
    cloud: Cloud
    control: Control
    shards: Shards
    host: HostProcess
    started: float

    def report(self, text: str) -> None:
        self.console.print(f"[dim]{time.monotonic() - self.started:5.1f} s[/dim]  {text}", soft_wrap=True)

    async def read_targets(self) -> dict[str, TargetStatus]:
        """The status of each cluster's one secret, by cluster name."""
        found = {cluster.name: TargetStatus() for cluster in CLUSTERS}
        for shard in (await self.shards.read_range("00", "0f")).values():
            for cluster, status in shard.statuses.items():
                found[cluster.name] = next(iter(status.targets.values()), TargetStatus())
        return found

    async def wait_until(self, text: str, is_reached: Callable[[dict[str, TargetStatus]], bool]) -> None:
        with self.console.status(text):
            while not is_reached(await self.read_targets()):
                if time.monotonic() - self.started > _TIME_LIMIT:
                    raise TimeoutError(f"not reached in time: {text}")
                await asyncio.sleep(0.3)
        self.report(text)

    async def can_pull(self, name: str) -> bool:
        cluster = self.cloud.clusters[name]
        hub = self.cloud.hubs[str(cluster.member.cluster.hub)]
        return await can_pull(await cluster.admin.read_auths(*_SECRET), hub.image, self.cloud.authority.pem)

    async def call(
        self, session: aiohttp.ClientSession, method: str, path: str, *, body: Any = None, verbose: str = ""
    ) -> dict[str, Any]:
        """Start an operation and poll it. verbose: a cluster name to report each step with.

        Raises RuntimeError with the operation if it does not succeed.
        """
        async with session.request(method, path, json=body) as response:
            operation: dict[str, Any] = await response.json()
            if response.status != HTTPStatus.ACCEPTED:
                raise RuntimeError(f"{method} {path}: {operation}")
            address = response.headers["Location"]
        reported = 0
        while operation["status"] in {"Queued", "Running"}:
            await asyncio.sleep(0.3)
            async with session.get(address) as response:
                operation = await response.json()
            done = [step for step in operation["steps"] if step["status"] == "done"]
            for step in done[reported:] if verbose else ():
                self.report(f"  {verbose}  {step['name']}: {step['detail']}")
            reported = len(done)
        if operation["status"] != "Succeeded":
            raise RuntimeError(f"{method} {path}: {operation}")
        return operation


async def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local.demo", description=__doc__)
    parser.add_argument("--clusters", choices=("stand-in", "real"), default="stand-in", help="the kind of API servers")
    parser.add_argument("--keep", action="store_true", help="keep it running until Ctrl-C")
    options = parser.parse_args()
    _call_on_signal(cast("asyncio.Task[int]", asyncio.current_task()).cancel)
    console = Console(highlight=False, width=max(112, Console().width))
    folder = Folder("demo")
    tempfile.tempdir = str(folder.path)  # so nothing is left of us even if we are killed
    async with AsyncExitStack() as opened:
        opened.callback(folder.remove)
        started, authority = time.monotonic(), Authority()
        azurite = Azurite(authority=authority)
        await azurite.start()
        opened.push_async_callback(azurite.stop)
        cloud = await opened.enter_async_context(Cloud(Clock(), authority))
        cloud.add_onboarder()
        for hub, registries in (("retail", 1), ("finance", 2)):
            cloud.add_hub(hub, lifetime=_TOKEN_LIFE, registries=registries)
        tables = TableServiceClient(
            azurite.endpoints("demo")["Table"],
            credential=LocalCredential(cloud.entra, cloud.entra.add_identity("operator")),
            connection_verify=str(cloud.trust_file),
        )
        await opened.enter_async_context(tables)
        host = host_process(_APP, _environment(cloud, azurite))
        demo = Demo(console, cloud, Control(cloud, host.restart), Shards(tables), host, started)
        demo.report("Storage (Azurite), Entra, Azure Resource Manager, Google and two registries are running")
        await _start_clusters(demo, await _api_servers(options.clusters, cloud, opened))
        await opened.enter_async_context(host)
        demo.report(f"The function app is running at {demo.host.url}; its timer fires every second")
        headers = {"x-functions-key": demo.host.keys.default}
        session = await opened.enter_async_context(aiohttp.ClientSession(demo.host.url, headers=headers))
        await _onboard(demo, session)
        before = await _break_some(demo)
        if options.keep:
            _show(demo, await demo.read_targets())
            await demo.control.serve(opened)
            await _keep_running(demo)
            return 0
        wrong = await _refresh_and_repair(demo, before)
        _show(demo, await demo.read_targets())
        if wrong:
            console.print(f"[red]These clusters did not end as planned: {', '.join(wrong)}[/red]")
            return 1
        console.print("[green]Every cluster ended as planned.[/green]")
        await _offboard(demo, session)
        return 0


def _environment(cloud: Cloud, azurite: Azurite) -> dict[str, str]:
    """The settings as on Azure. The polling of host.json is shortened in proportion to the tokens' life."""
    storage = cloud.entra.add_identity("pullkeeper-storage")
    cloud.identity.assign(storage)
    return {
        **cloud.environment(azurite.identity_settings("demo", storage.client_id)),
        "REFRESH_SCHEDULE": "* * * * * *",
        "ONBOARDING_SCOPES": _SCOPE,
        "AzureFunctionsJobHost__extensions__queues__visibilityTimeout": "00:00:01",
        "AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:00.500",
    }


async def _api_servers(kind: str, cloud: Cloud, opened: AsyncExitStack) -> Callable[[str], ApiServer | None]:
    """A function that creates the API server of a cluster; None: the cloud creates a stand-in."""
    if kind == "stand-in":
        return lambda _: None
    folder = binaries()
    if folder is None:
        raise SystemExit("kube-apiserver is missing: run tests/apiserver/build first (about 5 minutes, once)")
    etcd = Etcd(folder)
    await etcd.start()
    opened.push_async_callback(etcd.stop)
    issuer = Issuer(cloud.entra.issuer_v1, cloud.issuer_discovery, cloud.authority.pem)
    return lambda name: RealApiServer(name, etcd=etcd, issuer=issuer)


async def _start_clusters(demo: Demo, create_server: Callable[[str], ApiServer | None]) -> None:
    slots = asyncio.Semaphore(3)  # a real API server takes seconds to start, and most of a processor

    async def start(planned: Planned) -> None:
        async with slots:
            await demo.cloud.add_cluster(
                planned.name,
                planned.hub,
                local_accounts=planned.name == "shop-north",
                server=create_server(planned.name),
                ready=False,
            )

    with demo.console.status("Starting clusters"):
        await asyncio.gather(*map(start, CLUSTERS))
    demo.report(f"{len(CLUSTERS)} empty clusters are running")


async def _onboard(demo: Demo, session: aiohttp.ClientSession) -> None:
    """All at once, as many pipelines would: one call each, then polling."""
    demo.report(f"{len(CLUSTERS)} clusters are onboarded at once: POST /api/clusters, then polling")

    async def onboard(planned: Planned) -> None:
        body = {
            "cluster": str(demo.cloud.clusters[planned.name].id),
            "hub": planned.hub,
            # These clusters share a resource group, and Azure limits the writes of federated credentials per identity.
            "identity": f"{planned.name}-identity",
        }
        verbose = planned.name if planned.name == _HEALTHY[0] else ""
        operation = await demo.call(session, "POST", "/api/clusters", body=body, verbose=verbose)
        demo.report(f"{planned.name} is onboarded in {operation['result']['seconds']} s with hub {planned.hub}")

    await asyncio.gather(*map(onboard, CLUSTERS))


async def _break_some(demo: Demo) -> dict[str, TargetStatus]:
    """Break what is planned, and wait until the timer's refreshes report it. Return how the fleet was before."""
    await demo.wait_until(f"{len(CLUSTERS)} secrets are fresh", lambda targets: _are_fresh(targets, targets))
    minted = demo.cloud.google_part.journal.count("POST", "generateAccessToken")
    demo.report(f"Google has issued {minted} tokens so far, for {len(demo.cloud.hubs)} hubs")
    before = await demo.read_targets()
    for planned in CLUSTERS:
        if planned.hop:
            broken, *_ = await demo.control.break_hop(planned.hop, planned.name)
            demo.report(broken)
    await demo.wait_until(
        f"The {len(_BROKEN)} broken clusters are reported with their causes",
        lambda targets: all(targets[name].category == category for name, category in _BROKEN.items()),
    )
    return before


def _are_fresh(targets: Mapping[str, TargetStatus], names: Iterable[str], since: datetime | None = None) -> bool:
    found = [targets[name] for name in names]
    return all(one.issued_at and (since is None or one.issued_at > since) and not one.category for one in found)


async def _refresh_and_repair(demo: Demo, before: Mapping[str, TargetStatus]) -> list[str]:
    """Damage two secrets, and wait for the next refresh. Return the clusters that did not end as planned."""
    cloud = demo.cloud
    for name, variant in (("shop-south", "deleted"), ("shop-lab", "edited")):
        broken, *_ = await demo.control.break_hop("secret", name, variant)
        demo.report(broken)
    edited = cloud.clock()
    await demo.wait_until(
        "The next refresh replaced every token before half of its life, and repaired both secrets",
        lambda targets: _are_fresh(targets, _HEALTHY, edited),
    )
    pulling = [name for name in _HEALTHY if await demo.can_pull(name)]
    demo.report(f"{len(pulling)} of {len(_HEALTHY)} secrets can pull the image: registry handshake and manifest")
    after = await demo.read_targets()
    kept = [name for name in _HEALTHY if after[name].uid == before[name].uid]
    demo.report(f"{len(kept)} secrets kept their UID; only the deleted one was created again")
    wrong = {name for name in _HEALTHY if name not in pulling or (name in kept) == (name == "shop-south")}
    if await cloud.clusters["shop-legacy"].admin.read_auths(*_SECRET) != json.loads(OLD_SECRET)["auths"]:
        wrong.add("shop-legacy")
    for name, status in after.items():
        if status.category != _BROKEN.get(name) or (status.state(cloud.clock()) == "fresh") == (name in _BROKEN):
            wrong.add(name)
    return sorted(wrong)


async def _offboard(demo: Demo, session: aiohttp.ClientSession) -> None:
    cluster = demo.cloud.clusters["shop-east"]
    path = f"/api/clusters/{cluster.id.subscription}/{cluster.id.resource_group}/{cluster.id.name}"
    operation = await demo.call(session, "DELETE", path)
    left = operation["result"]["left"]
    demo.report(f"shop-east is offboarded; left behind: {', '.join(left) or 'nothing'}")


def _show(demo: Demo, targets: Mapping[str, TargetStatus]) -> None:
    table = Table(title="The fleet", title_justify="left", caption=f"The tokens of this demo live {_TOKEN_LIFE} s.")
    for column in ("cluster", "target", "state", "seconds left", "last success", "category"):
        table.add_column(column, no_wrap=True)
    now = demo.cloud.clock()
    for name, target in targets.items():
        state = target.state(now)
        table.add_row(
            name,
            str(demo.cloud.clusters[name].target),
            f"[{_COLOURS[state]}]{state}[/]",
            f"{(target.expires_at - now).total_seconds():.0f}" if target.expires_at else "-",
            f"{target.last_success:%H:%M:%S}" if target.last_success else "never",
            target.category or "-",
        )
    demo.console.print(table)
    # Below the table, because a command that is folded into a column cannot be copied.
    for name, target in targets.items():
        if target.category:
            demo.console.print(f"[bold]{name}[/]: {target.detail}\n  [cyan]remedy[/] {target.remedy}", soft_wrap=True)


async def _keep_running(demo: Demo) -> None:
    url, key = demo.host.url, demo.host.keys.default
    demo.console.print(
        f"\nThe fleet runs until Ctrl-C. Its dashboard:\n"
        f"  {url}/api/dashboard?code={key}\n"
        f"Its command line, in another terminal:\n"
        f"  cd {_APP}; . {sys.prefix}/bin/activate; alias pullkeeper='python -m pullkeeper.cli'\n"
        f"  export PULLKEEPER_URL={url} PULLKEEPER_KEY={key}\n"
        f"  pullkeeper get clusters\n"
        f"Break something, look at it, and repair it:\n"
        f"  python -m local.break registry-permission shop-west\n"
        f"  pullkeeper refresh shop-west; pullkeeper doctor shop-west\n"
        f"  python -m local.fix registry-permission shop-west\n"
        f"  python -m local.break --list\n"
        f"The app's log: {demo.host.log}",
        soft_wrap=True,
        markup=False,
    )
    stopping = asyncio.Event()
    _call_on_signal(stopping.set)
    await stopping.wait()


def _call_on_signal(stop: Callable[[], object]) -> None:
    """Call it on Ctrl-C and SIGTERM, so that everything is closed in order."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except asyncio.CancelledError:
        sys.exit("stopped")
