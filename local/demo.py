"""`make demo`: a fleet on this machine, onboarded over HTTP, refreshed by the timer, meddled with, mended, proved, and
gone again.

Nothing here is special to the demonstration but the shortened clock: the hubs ask for tokens of less than a minute,
and every time in Pullkeeper is a fraction of a token's life.
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp
from azure.data.tables.aio import TableServiceClient
from rich.console import Console
from rich.table import Table

from local.administrator import ApiServer
from local.azure.arm import ONBOARDER
from local.azurite import Azurite
from local.clock import Clock
from local.cloud import SUBSCRIPTION, Cloud, LocalCluster
from local.host import HostProcess
from local.kubernetes.apiserver import Etcd, Issuer, RealApiServer, binaries
from local.pull_check import can_pull
from pullkeeper.fleet.table import Fleet
from pullkeeper.model import TargetStatus

_APP: Final = Path(__file__).parent.parent
_LIFE: Final = 36
"""Seconds that a token lives: a refresh is due after 13 to 15 of them."""
_SCOPE: Final = f"/subscriptions/{SUBSCRIPTION}"
_SCHEDULE: Final = "* * * * * *"
_OLD_CRONJOB: Final = (
    '{"auths":{"europe-docker.pkg.dev":{"username":"oauth2accesstoken","password":"x","auth":"eA=="}}}'
)
_COLOURS: Final = {"fresh": "green", "stale": "yellow", "pending": "yellow", "expired": "red"}


@dataclass(frozen=True, slots=True)
class Part:
    """A cluster's part in the play: what happens to it, and how it should end.

    Those that end well are onboarded over HTTP, from nothing. The others were onboarded long ago, and have been spoilt
    since: onboarding would have stopped at what is wrong with them.
    """

    name: str
    hub: str
    story: str = ""
    state: str = "fresh"
    category: str | None = None


_PLAY: Final = (
    *(Part(f"shop-{region}", "retail") for region in ("west", "north", "east")),
    Part("shop-south", "retail", "a person deletes its secret"),
    Part("shop-lab", "retail", "a person edits its secret"),
    Part("shop-legacy", "retail", "has the older CronJob's secret", "pending", "secret_conflict"),
    *(Part(f"bank-{region}", "finance") for region in ("west", "north", "east", "south")),
    Part("bank-audit", "finance", "the role is missing", "pending", "cluster_rbac_denied"),
    Part("bank-edge", "finance", "unreachable", "pending", "cluster_unreachable"),
)


@dataclass(slots=True)
class Stage:
    """What the play needs, and what it remembers."""

    console: Console
    cloud: Cloud
    fleet: Fleet
    host: HostProcess
    started: float

    def say(self, text: str) -> None:
        self.console.print(f"[dim]{time.monotonic() - self.started:5.1f} s[/dim]  {text}", soft_wrap=True)

    async def targets(self) -> dict[str, TargetStatus]:
        """By cluster name: how its one target is."""
        held = [versioned.status async for versioned in self.fleet.statuses()]
        return {status.cluster.name: next(iter(status.targets.values()), TargetStatus()) for status in held}

    async def until(self, what: str, reached: Callable[[dict[str, TargetStatus]], bool]) -> None:
        """Wait, visibly, until the fleet is as wanted."""
        with self.console.status(what):
            while not reached(await self.targets()):
                if time.monotonic() - self.started > 120:  # noqa: PLR2004 - something is badly wrong by then
                    raise TimeoutError(f"gave up: {what}")
                await asyncio.sleep(0.3)
        self.say(what)


async def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local.demo", description=__doc__)
    parser.add_argument("--clusters", choices=("stand-in", "real"), default="stand-in", help="what API servers to use")
    parser.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C")
    options = parser.parse_args()
    console = Console(highlight=False, width=max(112, Console().width))
    async with AsyncExitStack() as opened:
        clock, started = Clock(), time.monotonic()
        azurite = Azurite()
        await azurite.start()
        opened.push_async_callback(azurite.stop)
        cloud = await opened.enter_async_context(Cloud(clock))
        storage = azurite.account("demo")
        tables = await opened.enter_async_context(TableServiceClient.from_connection_string(storage))
        for hub, registries in (("retail", 1), ("finance", 2)):
            cloud.add_hub(hub, lifetime=_LIFE, registries=registries)
        host = HostProcess(_APP, _environment(cloud, storage))
        trusted = frozenset(cloud.environment("")["TRUSTED_GOOGLE_HOSTS"].split(","))
        stage = Stage(console, cloud, Fleet(tables, trusted), host, started)
        stage.say("Storage (Azurite), Entra, Google, two registries and Azure Resource Manager are up")
        await _set_up(stage, await _servers(options.clusters, cloud, opened))
        await opened.enter_async_context(host)
        stage.say(f"The function app is hosted at {host.url}; the timer runs every second")
        await _onboard(stage)
        wrong = await _play(stage)
        _show(stage, await stage.targets(), wrong)
        if options.keep:
            await _keep(stage)
        return 1 if wrong else 0


async def _servers(kind: str, cloud: Cloud, opened: AsyncExitStack) -> Callable[[str], ApiServer | None]:
    """Makes the API server of a cluster; None: let the cloud make its stand-in."""
    if kind == "stand-in":
        return lambda _: None
    folder = binaries()
    if folder is None:
        raise SystemExit("no kube-apiserver at hand: run tests/apiserver/build first (about 5 minutes, once)")
    etcd = Etcd(folder)
    await etcd.start()
    opened.push_async_callback(etcd.stop)
    issuer = Issuer(cloud.entra.issuer_v1, cloud.issuer_discovery, cloud.authority.pem)
    return lambda name: RealApiServer(name, etcd=etcd, issuer=issuer)


async def _set_up(stage: Stage, server: Callable[[str], ApiServer | None]) -> None:
    """A few at a time: a real API server needs seconds to start, and much of a processor."""
    stage.cloud.arm.assign(stage.cloud.app.principal_id, _SCOPE, ONBOARDER)
    places = asyncio.Semaphore(3)

    async def prepared(part: Part) -> None:
        async with places:
            await _prepare(stage, part, server(part.name))

    with stage.console.status("Starting clusters"):
        await asyncio.gather(*map(prepared, _PLAY))


async def _prepare(stage: Stage, part: Part, server: ApiServer | None) -> None:
    cluster = await stage.cloud.add_cluster(
        part.name,
        part.hub,
        access=part.category != "cluster_rbac_denied",
        local_accounts=part.name == "shop-north",
        server=server,
        ready=part.state != "fresh",
    )
    if part.state == "fresh":
        stage.say(f"Cluster {part.name} is there, with nothing in it")
        return
    if part.category == "secret_conflict":
        await cluster.admin.create_secret(cluster.target.namespace, cluster.target.secret, _OLD_CRONJOB)
    if part.category == "cluster_unreachable":
        await cluster.server.stop()
    await stage.fleet.register(cluster.member)
    stage.say(f"Cluster {part.name} had joined hub {part.hub} before ({part.story})")


async def _onboard(stage: Stage) -> None:
    """All at once, as many pipelines would: each one call, and one poll."""
    parts = [part for part in _PLAY if part.state == "fresh"]
    stage.say(f"{len(parts)} clusters are onboarded at once: POST /api/clusters, then polling")
    async with aiohttp.ClientSession(stage.host.url, headers={"x-functions-key": stage.host.keys.default}) as session:
        await asyncio.gather(*(_onboarded(stage, session, part, aloud=part is parts[0]) for part in parts))


async def _onboarded(stage: Stage, session: aiohttp.ClientSession, part: Part, *, aloud: bool) -> None:
    """aloud: tell of each step as it passes. Raises RuntimeError with all that is known when it does not succeed."""
    wanted = {
        "cluster": str(stage.cloud.clusters[part.name].id),
        "hub": part.hub,
        # Azure lets nobody write often below one identity, and these clusters share a resource group.
        "identity": f"{part.name}-identity",
    }
    async with session.post("/api/clusters", json=wanted) as answer:
        operation = await answer.json()
        if answer.status != HTTPStatus.ACCEPTED:
            raise RuntimeError(f"{part.name}: {operation}")
        address = answer.headers["Location"]
    told = 0
    while operation["status"] in {"Queued", "Running"}:
        await asyncio.sleep(0.3)
        async with session.get(address) as answer:
            operation = await answer.json()
        done = [step for step in operation["steps"] if step["status"] == "done"]
        for step in done[told:] if aloud else ():
            stage.say(f"  {part.name}  {step['name']}: {step['detail']}")
        told = len(done)
    if operation["status"] != "Succeeded":
        raise RuntimeError(f"{part.name}: {operation}")
    story = f" ({part.story}, later)" if part.story else ""
    stage.say(f"Cluster {part.name} is onboarded in {operation['result']['seconds']} s with hub {part.hub}{story}")


def _environment(cloud: Cloud, storage: str) -> dict[str, str]:
    """The app's settings, with host.json's patience shortened in proportion, by the platform's own means."""
    return {
        **cloud.environment(storage),
        "REFRESH_SCHEDULE": _SCHEDULE,
        "ONBOARDING_SCOPES": _SCOPE,
        "AzureFunctionsJobHost__extensions__queues__visibilityTimeout": "00:00:01",
        "AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:00.500",
    }


async def _play(stage: Stage) -> list[str]:
    """Two cycles with a person's meddling in between. What is not as it should be in the end."""
    good = [part.name for part in _PLAY if part.state == "fresh"]
    bad = {part.name: part.category for part in _PLAY if part.category}
    cloud = stage.cloud

    def fresh(now: dict[str, TargetStatus], since: datetime | None = None) -> bool:
        found = [now.get(name, TargetStatus()) for name in good]
        return all(one.issued_at and (since is None or one.issued_at > since) and not one.category for one in found)

    await stage.until(f"{len(good)} secrets are fresh", fresh)
    minted = cloud.google_part.journal.count("POST", "generateAccessToken")
    stage.say(f"Google was asked for {minted} tokens so far, for {len(cloud.hubs)} hubs")
    await stage.until(
        "The three that cannot succeed are told apart",
        lambda now: all(now.get(name, TargetStatus()).category == category for name, category in bad.items()),
    )
    uids = {name: target.uid for name, target in (await stage.targets()).items()}
    deleted, edited = cloud.clusters["shop-south"], cloud.clusters["shop-lab"]
    await deleted.admin.delete_secret(deleted.target.namespace, deleted.target.secret)
    await edited.admin.edit_secret(edited.target.namespace, edited.target.secret, _OLD_CRONJOB)
    meddled = cloud.clock()
    stage.say("A person deletes the secret of shop-south and edits that of shop-lab (kubectl edit)")
    await stage.until(
        "Second cycle: every token replaced well before half of its life", lambda now: fresh(now, meddled)
    )
    proofs = [await _proved(stage, cloud.clusters[name]) for name in good]
    stage.say(
        f"{sum(proofs)} of {len(good)} secrets pull the image: registry handshake and manifest, as a kubelet would"
    )
    now = await stage.targets()
    kept = [name for name in good if name != "shop-south" and now[name].uid == uids[name]]
    stage.say(f"{len(kept)} secrets kept their UID; that of shop-south was made anew")
    wrong = [name for name, pulled in zip(good, proofs, strict=True) if not pulled]
    wrong += [name for name in good if name not in kept and name != "shop-south"]
    legacy = await cloud.clusters["shop-legacy"].admin.read_auths("deepintshield", "ar-pull-secret")
    wrong += [] if legacy == json.loads(_OLD_CRONJOB)["auths"] else ["shop-legacy"]
    for part in _PLAY:
        target = now.get(part.name, TargetStatus())
        if (target.state(cloud.clock()), target.category) != (part.state, part.category):
            wrong.append(part.name)
    return sorted(set(wrong))


async def _proved(stage: Stage, cluster: LocalCluster) -> bool:
    auths = await cluster.admin.read_auths(cluster.target.namespace, cluster.target.secret)
    hub = str(cluster.member.cluster.hub)
    return await can_pull(auths, stage.cloud.hubs[hub].image, stage.cloud.authority.pem)


def _show(stage: Stage, targets: dict[str, TargetStatus], wrong: list[str]) -> None:
    table = Table(title="The fleet", title_justify="left", caption="minutes left: the tokens here live 36 seconds")
    for column in ("cluster", "target", "state", "minutes left", "last success", "category"):
        table.add_column(column, no_wrap=True)
    now = stage.cloud.clock()
    remedies = []
    for part in _PLAY:
        target = targets.get(part.name, TargetStatus())
        state = target.state(now)
        left = (target.expires_at - now).total_seconds() / 60 if target.expires_at else None
        table.add_row(
            part.name,
            str(stage.cloud.clusters[part.name].target),
            f"[{_COLOURS[state]}]{state}[/]",
            "-" if left is None else f"{left:.1f}",
            f"{target.last_success:%H:%M:%S}" if target.last_success else "never",
            target.category or "-",
        )
        if target.category:
            remedies.append(f"[bold]{part.name}[/]: {target.detail}\n  [cyan]remedy[/] {target.remedy}")
    stage.console.print(table)
    # Below the table rather than in it: they hold commands, and a command that is folded cannot be copied.
    for remedy in remedies:
        stage.console.print(remedy, soft_wrap=True)
    if wrong:
        stage.console.print(f"[red]Not as it should be: {', '.join(wrong)}[/red]")
    else:
        stage.console.print("[green]Every cluster ended as it should.[/green]")


async def _keep(stage: Stage) -> None:
    host = stage.host
    cluster = stage.cloud.clusters["shop-west"].id
    path = f"{cluster.subscription}/{cluster.resource_group}/{cluster.name}"
    stage.console.print(
        f"\nIt keeps running until Ctrl-C. Look at it:\n"
        f"  curl {host.url}/api/health\n"
        f"  curl -X POST -H 'x-functions-key: {host.keys.default}' {host.url}/api/clusters/{path}/refresh\n"
        f"  tail -f {host.log}",
        soft_wrap=True,
    )
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await stopping.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
