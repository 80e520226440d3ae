"""Breaks of a running demo: `python -m local.break` and `python -m local.fix` ask it through a Unix socket."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp import web

from local.breaks import CannotBreak, hub_of
from local.cloud import Cloud, LocalCluster
from local.control_client import find_socket
from local.hops import BY_ITSELF, HOPS, Break, break_hop, find_break
from pullkeeper.diagnosis.report import HopName

_UNREACHABLE: Final[tuple[HopName, ...]] = ("cluster-state", "api-server")
"""While these are broken, the administrator cannot reach the cluster either."""


@dataclass(frozen=True, slots=True)
class _Broken:
    """What is broken now, and how to repair it. where: the cluster, or all of a hub, or of the app."""

    hop: HopName
    where: str
    variant: str
    opened: AsyncExitStack


class Control:
    """Breaks and repairs hops. Raises CannotBreak for what cannot be done; the message says why."""

    def __init__(self, cloud: Cloud, restart: Callable[[], Awaitable[None]]) -> None:
        """restart: restarts the app, which then holds no tokens."""
        self._cloud = cloud
        self._restart = restart
        self._broken: list[_Broken] = []

    async def break_hop(self, hop: HopName, cluster: str, variant: str | None = None) -> list[str]:
        """Break a hop of the cluster with this name. Return what to tell the operator, line by line."""
        way, found = find_break(hop, variant), self._find_cluster(cluster)
        where = _where(way, found)
        self._check_reachable(hop, cluster)
        if any((one.hop, one.where) == (hop, where) for one in self._broken):
            raise CannotBreak(f"{hop} of {where} is broken already: python -m local.fix {hop} {cluster}")
        opened = AsyncExitStack()
        await opened.enter_async_context(break_hop(self._cloud, found, hop, variant))
        if way.repair == BY_ITSELF:
            await opened.aclose()
        else:
            self._broken.append(_Broken(hop, where, variant or next(iter(HOPS[hop])), opened))
        if way.cached:
            await self._restart()
        return [f"{hop} of {where} is broken, as by: {self.fill_in(way.event, found)}", *_advise(way, hop, cluster)]

    async def fix(self, hop: HopName, cluster: str) -> list[str]:
        """Repair it. Return what to tell the operator."""
        found = self._find_cluster(cluster)
        self._check_reachable(hop, cluster)
        for one in self._broken:
            way = find_break(hop, one.variant) if one.hop == hop else None
            if way and one.where == _where(way, found):
                self._broken.remove(one)
                await one.opened.aclose()
                done = f"{hop} of {one.where} is repaired, as by: {self.fill_in(way.repair, found)}"
                return [done, f"Look again: pullkeeper {'refresh' if way.category else 'doctor'} {cluster}"]
        raise CannotBreak(
            f"{hop} of {cluster} was not broken. Broken now: {', '.join(self.list_broken()) or 'nothing'}"
        )

    def list_broken(self) -> list[str]:
        return [f"{one.hop} of {one.where}" for one in self._broken]

    def fill_in(self, text: str, cluster: LocalCluster) -> str:
        """Put the known names into an event or a repair."""
        cloud, hub = self._cloud, hub_of(self._cloud, cluster)
        _, project, _, _, _, pool = hub.provider.pool.split("/")
        return text.format(
            subscription=cluster.id.subscription,
            group=cluster.id.resource_group,
            name=cluster.id.name,
            namespace=cluster.target.namespace,
            secret=cluster.target.secret,
            identity=cloud.app.resource_id,
            client_id=cloud.app.client_id,
            principal=cloud.app.principal_id,
            tenant=cloud.entra.tenant,
            issuer_v1=cloud.entra.issuer_v1,
            issuer_v2=cloud.entra.issuer_v2,
            provider=hub.document["credentialConfig"]["audience"].rpartition("/")[2],
            project=project,
            pool=pool,
            service_account=hub.service_account,
            principal_at_google=hub.principal,
            repository=hub.repository.rpartition("/")[2],
            reader=hub.reader,
            image=f"{hub.document['registries'][0]}/{hub.image}",
        )

    async def serve(self, opened: AsyncExitStack) -> None:
        """Listen on the socket until `opened` is closed."""
        path = find_socket()
        path.parent.mkdir(exist_ok=True)
        application = web.Application()
        application.router.add_get("/", self._list_ways)
        application.router.add_post("/{action:break|fix}", self._handle)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        opened.push_async_callback(runner.cleanup)
        await web.UnixSite(runner, path).start()

    async def _handle(self, request: web.Request) -> web.Response:
        asked = await request.json()
        do = self.fix if request.match_info["action"] == "fix" else self.break_hop
        try:
            return web.json_response(await do(**asked))
        except (CannotBreak, AssertionError, aiohttp.ClientError) as e:  # the last two are the administrator's
            return web.json_response([str(e)], status=409)

    async def _list_ways(self, _: web.Request) -> web.Response:
        lines = [f"{'HOP':22}{'WAY':20}REPORTED BY A REFRESH AS"]
        for hop, ways in HOPS.items():
            lines += [f"{hop:22}{variant:20}{way.category or '-'}" for variant, way in ways.items()]
        lines.append("The first way of a hop is the default. What a refresh does not report, a diagnosis finds.")
        return web.json_response([*lines, f"Broken now: {', '.join(self.list_broken()) or 'nothing'}"])

    def _find_cluster(self, name: str) -> LocalCluster:
        if name not in self._cloud.clusters:
            raise CannotBreak(f"there is no cluster {name}. There are {', '.join(self._cloud.clusters)}")
        return self._cloud.clusters[name]

    def _check_reachable(self, hop: HopName, name: str) -> None:
        down = next((one.hop for one in self._broken if one.where == name and one.hop in _UNREACHABLE), hop)
        if down != hop:
            raise CannotBreak(f"{name} cannot be reached, not even by its administrator: first fix {down}")


def _where(way: Break, cluster: LocalCluster) -> str:
    hub = cluster.member.cluster.hub
    return {"cluster": cluster.id.name, "hub": f"all clusters of the hub {hub}", "app": "all clusters"}[way.scope]


def _advise(way: Break, hop: HopName, name: str) -> list[str]:
    """What to watch, and how to repair it."""
    if way.repair == BY_ITSELF:
        return [f"pullkeeper refresh {name}, or the next refresh by itself, repairs it"]
    restarted = "The app was restarted: else it had used its tokens for up to 24 hours. " if way.cached else ""
    seen = (
        f"pullkeeper refresh {name}, or the next refresh by itself, reports {way.category}, with the remedy"
        if way.category
        else f"A refresh does not notice. pullkeeper doctor {name} finds it, with the remedy"
    )
    return [f"{restarted}{seen}. Follow it here: python -m local.fix {hop} {name}"]
