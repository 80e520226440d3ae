"""A world for one test: the local cloud, empty storage and the app's services, on a clock that the test moves."""

import itertools
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import pytest
from azure.storage.queue import TextBase64DecodePolicy
from azure.storage.queue.aio import QueueClient

from local.azure.entra import Entra
from local.clock import Clock
from local.cloud import Cloud, LocalCluster
from local.serving import Authority
from pullkeeper import telemetry
from pullkeeper.fleet.queues import RefreshMessage
from pullkeeper.fleet.shards import shard_of
from pullkeeper.fleet.status import Status, TargetStatus
from pullkeeper.services import Services

MINUTE = timedelta(minutes=1)
Reason = Literal["due", "retry", "manual"]


class Events(logging.Handler):
    """Records the emitted events as flat dicts, with their name under `event`."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        fields = vars(record)
        if "microsoft.custom_event.name" in fields:
            own = {key: value for key, value in fields.items() if key not in _PLAIN and "." not in key}
            self.seen.append({"event": fields["microsoft.custom_event.name"], **own})

    def named(self, event: str) -> list[dict[str, Any]]:
        return [seen for seen in self.seen if seen["event"] == event]

    def find_unlisted(self) -> set[str]:
        """Return what has been emitted and is not in the table of events, or has another type there."""
        return {
            f"{seen['event']}: {name}={value!r}"
            for seen in self.seen
            for name, value in seen.items()
            if name != "event" and not _fits(value, telemetry.FIELDS[seen["event"]].get(name))
        }


def _fits(value: object, listed: type | None) -> bool:
    """Whether a value may be in the field. Times have been formatted by then."""
    if listed is datetime:
        return datetime.fromisoformat(str(value)).tzinfo is not None
    return listed is not None and isinstance(value, (int, float) if listed is float else listed)


_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@dataclass(slots=True)
class World:
    """The cloud has the hub `main`. settings: added to the app's environment before its services are built."""

    cloud: Cloud
    storage: str
    clock: Clock
    monkeypatch: pytest.MonkeyPatch
    events: Events = field(default_factory=Events)
    settings: dict[str, str] = field(default_factory=dict)
    _services: Services | None = None

    @property
    def services(self) -> Services:
        """Built when first needed. Hubs that are added later are unknown to the app."""
        if self._services is None:
            self._services = self.build_services()
        return self._services

    def build_services(self) -> Services:
        """Services as of another process of the app, with empty caches."""
        environment = {**self.cloud.environment(self.storage), **self.settings}
        for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
            self.monkeypatch.setenv(name, environment[name])
        return Services.build(environment, self.clock)

    async def join(self, name: str, hub: str = "main", **options: Any) -> LocalCluster:
        cluster = await self.cloud.add_cluster(name, hub, **options)
        await self.services.fleet.register(cluster.member)
        return cluster

    def name_beside(self, cluster: LocalCluster, prefix: str = "beside") -> str:
        """A name for another cluster of the same shard."""
        names = (f"{prefix}-{number}" for number in itertools.count())
        return next(name for name in names if shard_of(cluster.id._replace(name=name)) == shard_of(cluster.id))

    async def refresh(self, cluster: LocalCluster, reason: Reason = "manual") -> Status:
        """Refresh one cluster, due or not. manual: makes sure of the service accounts too."""
        message = RefreshMessage(shard=shard_of(cluster.id), cluster=cluster.id, reason=reason)
        await self.services.refresher.refresh(message)
        return await self.status(cluster)

    async def refresh_category(self, cluster: LocalCluster, reason: Reason = "manual") -> str:
        """Refresh one cluster, and return the categories of its targets: `ok` if it has none."""
        status = await self.refresh(cluster, reason)
        categories = {target.category for target in status.targets.values() if target.category}
        return ",".join(sorted(categories)) or "ok"

    async def status(self, cluster: LocalCluster) -> Status:
        return (await self.services.shards.read(shard_of(cluster.id))).status(cluster.id)

    async def next_due(self, cluster: LocalCluster) -> datetime:
        return (await self.status(cluster)).next_due(cluster.member.cluster)

    async def target(self, cluster: LocalCluster) -> TargetStatus:
        return (await self.status(cluster)).targets[str(cluster.target)]

    async def process_queue(self) -> int:
        """Process every message that is visible; return how many."""
        done = 0
        async with QueueClient.from_connection_string(
            self.storage, "refresh", message_decode_policy=TextBase64DecodePolicy()
        ) as queue:
            async for message in queue.receive_messages():
                done += 1
                await queue.delete_message(message)
                await self.services.refresher.receive(message.content.encode())
        return done

    async def tick(self) -> int:
        """Run the timer once, and process the queue."""
        await self.services.scheduler.run()
        return await self.process_queue()

    async def read_token(self, cluster: LocalCluster) -> str:
        """The token in the cluster's pull secret."""
        target = cluster.target
        auths: Mapping[str, Any] = await cluster.admin.read_auths(target.namespace, target.secret)
        return str(next(iter(auths.values()))["password"])

    def format_events(self) -> str:
        return json.dumps(self.events.seen, indent=1, default=str)


@asynccontextmanager
async def open_world(
    storage: str, authority: Authority, monkeypatch: pytest.MonkeyPatch, entra: Entra | None = None
) -> AsyncIterator[World]:
    clock = Clock()
    async with Cloud(clock, authority, entra) as cloud:
        cloud.add_hub("main")
        world = World(cloud, storage, clock, monkeypatch)
        logger = logging.getLogger("pullkeeper")
        logger.addHandler(world.events)
        try:
            yield world
            assert world.events.find_unlisted() == set()
        finally:
            logger.removeHandler(world.events)
            if world._services:
                await world._services.close()
