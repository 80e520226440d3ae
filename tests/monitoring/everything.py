"""A fleet in which everything happens that the app reports: every event with every field, and every metric."""

import json
from contextlib import suppress
from typing import Any, Final

from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient

from functions.invocation import poison_trigger, run
from local.clock import Clock
from local.cloud import GROUP, SUBSCRIPTION, LocalCluster
from local.serving import Fault
from pullkeeper.errors import InternalError, StorageUnavailable
from pullkeeper.fleet.queues import RefreshMessage
from pullkeeper.fleet.shards import shard_of
from pullkeeper.fleet.table import Member
from pullkeeper.model import ClusterId, SelectorTarget, Target
from pullkeeper.publisher.hub import Hub
from pullkeeper.services import Services
from pullkeeper.settings import Settings
from pullkeeper.status import report_problems
from tests.faults.gate import put_gates
from tests.monitoring.workspace import Workspace
from tests.onboarding.conftest import Onboarding
from tests.world import MINUTE, World

_TEAMS: Final = SelectorTarget.parse({"namespaceSelector": {"matchLabels": {"pull": "yes"}}})
_NOTED: Final = Target.parse({"serviceAccounts": ["missing"]})
_TICKS: Final = 13
"""Until the token of a cluster that is down has expired."""


async def happen(world: World, workspace: Workspace, onboarding: Onboarding) -> None:
    """Let all of it happen, and most of it within the last half hour."""
    teams = await world.join("teams", targets=(_NOTED, _TEAMS))
    down, newer = await world.join("down"), await world.join("newer")
    await world.join("pending", access=False)
    await _join_in_cluster(world)
    await world.tick()
    down.part.faults.add(Fault(path="/secrets/", method="PATCH"))
    for _ in range(_TICKS):
        world.clock.advance(5 * MINUTE)
        await world.tick()
        workspace.export()
    await _change(world, teams, newer)
    await world.services.refresher.refresh(RefreshMessage(shard=shard_of(newer.id), reason="due"))
    await _run_operations(onboarding)
    await _send_messages(world, newer)
    await _lose_tokens(world)
    report_problems(Settings.read({"REFRESH_SCHEDULE": "often"}))
    workspace.export()


async def _join_in_cluster(world: World) -> None:
    """Add a cluster that refreshes itself, where the app may not look."""
    cluster = await world.cloud.add_cluster("in-cluster", "main", access=False)
    own = cluster.member.cluster.model_copy(update={"refresher": "in-cluster"})
    await world.services.fleet.register(Member(own, cluster.member.endpoint))


async def _change(world: World, teams: LocalCluster, newer: LocalCluster) -> None:
    """Change labels, a secret, the probe's image, and the version of a row; with a tick that is too slow."""
    await _label(teams, pull="yes")
    world.clock.advance(5 * MINUTE)
    await world.tick()
    await _label(teams)
    await teams.admin.delete_secret(_NOTED.namespace, _NOTED.secret)
    world.cloud.registries[0].remove_image(world.cloud.hubs["main"].image)
    async with TableClient.from_connection_string(world.storage, "shards") as shards:
        row = {"PartitionKey": "shard", "RowKey": shard_of(newer.id), "Format": 2}
        await shards.update_entity(row, mode=UpdateMode.MERGE)
    for minutes in (8, 5, 8):
        world.clock.advance(minutes * MINUTE)
        await world.tick()


async def _label(cluster: LocalCluster, **labels: str) -> None:
    metadata = {"name": "team", "labels": labels}
    await cluster.admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})


async def _run_operations(onboarding: Onboarding) -> None:
    """Onboard a cluster, offboard it, and onboard one that does not exist."""
    cluster = await onboarding.cluster("new")
    await onboarding.onboard(cluster)
    await onboarding.offboard_fully(cluster)
    ended = await onboarding.run({"cluster": str(ClusterId(SUBSCRIPTION, GROUP, "gone")), "hub": "main"})
    assert ended.status == "Failed"


async def _send_messages(world: World, newer: LocalCluster) -> None:
    """Send a message of another version, and some that the queue gives up."""

    async def fail(_: Any) -> None:
        raise ValueError

    await world.services.refresher.receive(b'{"version": 2}')
    await world.services.refresher.give_up(b"junk")
    await world.services.refresher.give_up(
        RefreshMessage(shard=shard_of(newer.id), reason="due").model_dump_json().encode()
    )
    await poison_trigger(fail)("message")
    with suppress(InternalError):
        await run("refresh", fail("message"))


async def _lose_tokens(world: World) -> None:
    """Revoke the token that another process holds, twice. Its clock is wrong, and at last it loses its storage."""
    async with put_gates(world.storage) as (behind, gates):
        process = _start_process(world, behind)
        hub = Hub.parse(
            json.dumps(world.cloud.hubs["main"].document), trusted_hosts=world.services.settings.trusted_hosts
        )
        await process.federation.token(hub)
        for mode in ("open", "shut"):
            world.cloud.google.revoke_all()
            world.clock.advance(5 * MINUTE)
            gates.set(mode)
            await process.federation.probe_held()
            await process.mints.finish()
        with suppress(StorageUnavailable):
            await process.scheduler.run()
        await process.close()


def _start_process(world: World, storage: str) -> Services:
    clock, direct = world.clock, world.storage
    world.clock, world.storage = _AheadOf(clock), storage
    try:
        return world.build_services()
    finally:
        world.clock, world.storage = clock, direct


class _AheadOf(Clock):
    """A clock that is wrong by two minutes."""

    def __init__(self, right: Clock) -> None:
        super().__init__()
        self._right = right

    def __call__(self) -> Any:
        return self._right() + 2 * MINUTE
