"""Promise 4: a cluster that is down, slow or refuses never delays the others."""

import asyncio
from datetime import timedelta

import pytest

from local.cloud import LocalCluster
from local.serving import Fault
from pullkeeper.errors import ClusterUnreachable
from pullkeeper.fleet.queues import RefreshMessage
from pullkeeper.fleet.shards import shard_of
from pullkeeper.fleet.table import Member
from pullkeeper.model import Endpoint
from pullkeeper.refresh import record
from pullkeeper.refresh.attempt import Writer
from pullkeeper.refresh.capacity import _TURNS, Capacity
from pullkeeper.refresh.outcomes import Attempt
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers


async def _make_silent(world: World, cluster: LocalCluster, connected: asyncio.Event) -> asyncio.Server:
    """Put a server in its place that accepts connections and never responds, as a firewall or a load balancer may."""

    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        try:
            await reader.read()
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(ignore, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    endpoint = Endpoint(server=f"https://127.0.0.1:{port}", ca=cluster.server.ca_pem, read_at=world.clock())
    await world.services.fleet.register(Member(cluster.member.cluster, endpoint))
    return server


@pytest.mark.parametrize("how", ["hanging", "silent"])
async def test_other_clusters_are_refreshed_while_one_hangs(world: World, how: str) -> None:
    """In one process, all at once."""
    bad = await world.join("bad")
    good = [await world.join(f"aks-{n}") for n in range(40)]
    connected = asyncio.Event()
    silent = await _make_silent(world, bad, connected) if how == "silent" else None
    bad.part.faults.add(Fault(path="/secrets/", method="PATCH", hang=True))
    hanging = asyncio.create_task(world.refresh(bad))
    while not (connected.is_set() or bad.part.faults.have_fired):  # noqa: ASYNC110 - a stand-in has no event for it
        await asyncio.sleep(0.01)
    await asyncio.gather(*(world.refresh(cluster) for cluster in good))
    if not silent:  # whose connection is closed after a few seconds
        assert not hanging.done()
    for cluster in good:
        assert (await world.target(cluster)).state(world.clock()) == "fresh"
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)
    if silent:
        silent.close()
        await silent.wait_closed()


@pytest.mark.parametrize(
    ("cause", "capacity"),
    [
        ("a suspect without a place", Capacity(suspects=0, longest_turn=60)),
        ("no place", Capacity(prompt=0, longest_turn=0.05)),
        ("no response", Capacity(longest_turn=60)),
    ],
)
async def test_no_shard_waits_for_a_cluster_of_another(world: World, cause: str, capacity: Capacity) -> None:
    """Only where none of the two bounds has a place for it, and not for long."""
    cluster = await world.join("aks-1")
    faults = cluster.part.faults
    if cause == "no response":
        faults.add(Fault(path="/secrets/", method="PATCH", hang=True))
    if cause == "a suspect without a place":
        await cluster.server.stop()
        await world.refresh(cluster)
    world.services.refresher._capacity = capacity
    refresh = asyncio.create_task(world.refresh(cluster))
    async with asyncio.timeout(20):
        while not (capacity._prompt._waiters or capacity._waiting or faults.have_fired):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
        while capacity.turn._value < _TURNS:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not refresh.done()
    refresh.cancel()
    await asyncio.wait({refresh})


async def test_a_shard_is_read_when_its_turn_has_come(world: World) -> None:
    """Were all read at once, all would be read again."""
    cluster = await world.join("aks-1")
    world.services.refresher._capacity = capacity = Capacity()
    capacity.turn = asyncio.Semaphore(0)
    refresh = asyncio.create_task(world.refresh(cluster))
    async with asyncio.timeout(20):
        while not (capacity.turn._waiters or refresh.done()):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
    assert not refresh.done()
    capacity.turn.release()
    assert (await refresh).targets


async def test_a_turn_lasts_until_all_clusters_of_the_shard_have_a_place(world: World) -> None:
    """Here there is one, and the first keeps it."""
    first = await world.join("aks-1")
    clusters = (first, await world.join(world.name_beside(first)))
    for one in clusters:
        one.part.faults.add(Fault(path="/secrets/", method="PATCH", hang=True))
    world.services.refresher._capacity = capacity = Capacity(prompt=1, patience=600, longest_turn=600)
    message = RefreshMessage(shard=shard_of(first.id), reason="due")
    refresh = asyncio.create_task(world.services.refresher.refresh(message))
    async with asyncio.timeout(20):
        while not any(one.part.faults.have_fired for one in clusters):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
    assert capacity.turn._value == _TURNS - 1
    refresh.cancel()
    await asyncio.wait({refresh})


async def test_no_shard_waits_for_clusters_that_get_no_token(world: World) -> None:
    cluster = await world.join("aks-1")
    world.cloud.google_part.faults.add(Fault(path="/v1/token$", status=400, body="{}"))
    world.services.refresher._capacity = Capacity(longest_turn=600)
    async with asyncio.timeout(30):
        assert await world.refresh_category(cluster) == "internal"


@pytest.mark.parametrize("why", ["late", "a suspect without a place", "no token yet"])
async def test_outcomes_are_recorded_as_soon_as_only_late_clusters_are_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """And after some seconds, whatever is waited for. What ends after that is recorded soon, too."""
    monkeypatch.setattr(record, "_WITHIN", record._WITHIN / 10 if why == "no token yet" else 600.0)
    world.cloud.add_hub("slow")
    late = await world.join("late", "slow")
    good = await world.join(world.name_beside(late))
    slow = await world.join(world.name_beside(late, "slow"))
    slow.part.faults.add(Fault(path="/secrets/", method="PATCH", delay=timedelta(seconds=1), slow_only=True))
    late.part.faults.add(Fault(path="/secrets/", method="PATCH", hang=True))
    if why == "no token yet":
        account = world.cloud.hubs["slow"].service_account
        world.cloud.google_part.faults.add(Fault(path=account, hang=True))
    if why == "a suspect without a place":
        await late.server.stop()
        await world.refresh(late)
        world.clock.advance(MINUTE)
        world.services.refresher._capacity = Capacity(suspects=0)
    message = RefreshMessage(shard=shard_of(late.id), reason="due")
    refresh = asyncio.create_task(world.services.refresher.refresh(message))
    async with asyncio.timeout(20):
        for one in (good, slow):
            while not (await world.status(one)).targets:  # noqa: ASYNC110 - the table tells no one
                await asyncio.sleep(0.05)
    assert not refresh.done()
    refresh.cancel()
    await asyncio.wait({refresh})


async def test_a_call_that_was_closed_for_others_names_its_cluster(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def be_closed(*_: object, **__: object) -> Attempt:
        raise ClusterUnreachable("no response while other clusters waited for the connection")

    monkeypatch.setattr(Writer, "write", be_closed)
    cluster = await world.join("aks-1")
    assert await world.refresh_category(cluster) == "cluster_unreachable"
    assert f"--resource-group {cluster.id.resource_group} --name aks-1 " in str((await world.target(cluster)).remedy)


async def test_all_of_the_fleet_but_the_broken_stay_fresh(world: World) -> None:
    """For longer than a token lives: one refuses, one is down, one returns HTML, the hub of one is gone."""
    good = [await world.join(f"aks-{n}") for n in range(6)]
    await world.join("refusing", access=False)
    down = await world.join("down")
    rubbish = await world.join("rubbish")
    rubbish.part.faults.add(Fault(path="/secrets/", method="PATCH", status=200, body="<html>"))
    gone = await world.join("gone")
    lost = gone.member.cluster.model_copy(update={"hub": "no-such-hub"})
    await world.services.fleet.register(Member(lost, gone.member.endpoint))
    await down.server.stop()
    for _ in range(15):
        await world.tick()
        for cluster in good:
            issued = world.cloud.google.lookup(await world.read_token(cluster))
            assert issued is not None
            assert issued.expires_at - world.clock() > 30 * MINUTE
        world.clock.advance(5 * MINUTE)
    categories = {
        event["cluster"].rpartition("/")[2]: event["category"]
        for event in world.events.named("fleet.status")
        if "category" in event
    }
    assert categories == {
        "refusing": "cluster_rbac_denied",
        "down": "cluster_unreachable",
        "rubbish": "cluster_unreachable",
        "gone": "invalid_request",
    }


async def test_a_slow_mint_of_one_hub_does_not_delay_the_other(world: World) -> None:
    world.cloud.add_hub("slow")
    slow, quick = await world.join("aks-1", "slow"), await world.join("aks-2", "main")
    account = world.cloud.hubs["slow"].service_account
    world.cloud.google_part.faults.add(Fault(path=account, hang=True, times=1))
    waiting = asyncio.create_task(world.refresh(slow))
    await world.refresh(quick)
    assert not waiting.done()
    world.cloud.google_part.faults.clear()
    await world.cloud._google_server.stop()
    await world.cloud._google_server.start()
    await asyncio.gather(waiting, return_exceptions=True)
