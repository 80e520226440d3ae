"""Use case: diagnose a cluster or a hub. Nothing is written anywhere: clusters get reads, lists, dry runs and access
reviews; Azure and the tables get reads.
"""

import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import Final

from pullkeeper.deadline import deadline
from pullkeeper.diagnosis.azure_hops import start_azure_hops
from pullkeeper.diagnosis.cluster_hops import authenticate, check_api_server, check_permission
from pullkeeper.diagnosis.course import ORDER, Course, Step, worst
from pullkeeper.diagnosis.hub_hops import check_identity, start_hub_hops
from pullkeeper.diagnosis.object_hops import check_accounts, check_config_maps, check_namespaces
from pullkeeper.diagnosis.patient import Patient
from pullkeeper.diagnosis.pods_hop import check_pods
from pullkeeper.diagnosis.report import Diagnosis, Hop
from pullkeeper.diagnosis.secret_hop import check_secrets
from pullkeeper.diagnosis.tools import Tools
from pullkeeper.errors import InvalidRequest, PullkeeperError, UnknownHub
from pullkeeper.fleet.shards import shard_of
from pullkeeper.fleet.status import Status
from pullkeeper.fleet.table import Member
from pullkeeper.model import Cluster, ClusterId
from pullkeeper.publisher.hub import Hub
from pullkeeper.version import VERSION

_OF_A_HUB: Final = ORDER[1:6]
"""Its hops, without that of the app's identity."""


class Diagnostics:
    """Any number at once. Diagnoses of the same hub at the same time share its hops: one mint is enough for all."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._shared: dict[str, tuple[Course, Step[None]]] = {}

    async def examine_hub(self, name: str) -> Diagnosis:
        """Diagnose a hub of the setting HUBS. Raises UnknownHub; InvalidSetting for one that is wrong."""
        began = time.monotonic()
        if name not in self._tools.hubs:
            raise UnknownHub(f"the setting HUBS has no hub {name}")
        hub = self._tools.hubs[name]
        course, _ = self._join(hub, self._tools.limit)
        return self._report(began, await self._finish(course), hub=name)

    async def examine_cluster(self, cluster: ClusterId) -> Diagnosis:
        """Diagnose a cluster of the fleet. Raises NotInFleet, StorageUnavailable, UnknownFormat."""
        began = time.monotonic()
        with deadline(self._tools.limit):
            member = await self._tools.fleet.member(cluster)
            status = (await self._tools.shards.read(shard_of(cluster))).status(cluster)
        limit = self._tools.limit - timedelta(seconds=time.monotonic() - began)
        course = Course(self._tools.documentation, limit)
        hub, shared, identity = self._start_hub(course, member.cluster, limit)
        async with AsyncExitStack() as opened:
            self._start_cluster(course, member, status, identity, hub=hub, opened=opened)
            try:
                hops = await course.finish()
            finally:
                await course.close()
            if shared:
                hops += await self._finish(shared)
        name = member.cluster.hub if isinstance(member.cluster.hub, str) else None
        return self._report(began, hops, cluster=cluster, hub=name)

    def _start_hub(
        self, course: Course, cluster: Cluster, limit: timedelta
    ) -> tuple[Hub | None, Course | None, Step[None]]:
        """Return the hub, the course that its hops share with other diagnoses, and the hop of the app's identity."""
        try:
            hub = self._find_hub(cluster)
            if cluster.refresher == "central":
                shared, identity = self._join(hub, limit)
                return hub, shared, identity
            for name in _OF_A_HUB:
                course.add(name, "skipped", "the cluster refreshes its secrets itself, with an identity of its own")
        except PullkeeperError as e:
            hub = None
            course.fail(_OF_A_HUB[0], e)
            for name in _OF_A_HUB[1:]:
                course.skip(name, _OF_A_HUB[0])
        return hub, None, course.start("managed-identity", check_identity(course, self._tools))

    def _find_hub(self, cluster: Cluster) -> Hub:
        if isinstance(cluster.hub, Hub):
            return cluster.hub
        if cluster.hub not in self._tools.hubs:
            raise InvalidRequest(f"the setting HUBS has no hub {cluster.hub}")
        return self._tools.hubs[cluster.hub]

    def _join(self, hub: Hub, limit: timedelta) -> tuple[Course, Step[None]]:
        """Start the hops of a hub, or share those that are under way."""
        if hub.identity in self._shared and not self._shared[hub.identity][0].has_ended:
            return self._shared[hub.identity]
        course = Course(self._tools.documentation, limit)
        identity = course.start("managed-identity", check_identity(course, self._tools))
        start_hub_hops(course, self._tools, hub, identity)
        self._shared[hub.identity] = course, identity
        return course, identity

    async def _finish(self, course: Course) -> list[Hop]:
        """Wait for the hops of a hub, and drop what all that have ended found: tokens among it."""
        hops = await course.finish()
        self._shared = {hub: one for hub, one in self._shared.items() if not one[0].has_ended}
        return hops

    def _start_cluster(
        self,
        course: Course,
        member: Member,
        status: Status,
        identity: Step[None],
        *,
        hub: Hub | None,
        opened: AsyncExitStack,
    ) -> None:
        tools = self._tools
        cluster = member.cluster
        azure = start_azure_hops(course, tools, cluster, identity)
        endpoint = course.start("api-server", check_api_server(course, tools, member, status, azure.facts))
        admit = partial(Patient, cluster, status, tools.clock(), hub)
        known = course.start(
            "authentication",
            authenticate(course, tools, endpoint, identity, cluster=cluster.cluster, opened=opened, admit=admit),
        )
        namespaces = course.start("namespace", check_namespaces(course, known))
        denied = course.start("permission", check_permission(course, known, namespaces))
        accounts = check_accounts(course, known, namespaces, denied, azure.client_ids)
        course.start("service-account", accounts)
        course.start("credential-config", check_config_maps(course, known, namespaces))
        course.start("secret", check_secrets(course, known, namespaces, denied))
        course.start("pods", check_pods(course, known, namespaces))

    def _report(self, began: float, hops: Iterable[Hop], **about: ClusterId | str | None) -> Diagnosis:
        found = tuple(sorted(hops, key=lambda hop: ORDER.index(hop.name)))
        return Diagnosis(
            version=VERSION,
            at=self._tools.clock(),
            seconds=round(time.monotonic() - began, 3),
            state=worst(found),
            hops=found,
            **about,
        )
