"""Promise 4: one cluster down, slow or refusing never delays the others."""

import asyncio

import pytest

from local.cloud import LocalCluster
from local.serving import Fault
from pullkeeper.fleet.table import Member
from pullkeeper.model import Endpoint
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers


async def _silent(world: World, cluster: LocalCluster) -> asyncio.Server:
    """A firewall, or a load balancer with nothing behind it: it takes the connection and never says a word."""

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(keep, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    endpoint = Endpoint(server=f"https://127.0.0.1:{port}", ca=cluster.server.ca_pem, read_at=world.clock())
    await world.services.fleet.register(Member(cluster.member.cluster, endpoint))
    return server


@pytest.mark.parametrize("how", ["hanging", "silent"])
async def test_the_others_are_done_while_one_still_hangs(world: World, how: str) -> None:
    """In one process, all at once: no lock, place or time of the hanging one's is in anybody's way."""
    bad = await world.join("bad")
    good = [await world.join(f"aks-{n}") for n in range(40)]
    silent = await _silent(world, bad) if how == "silent" else None
    bad.part.faults.add(Fault(path="/secrets/", method="PATCH", hang=True))
    hanging = asyncio.create_task(world.refresh(bad))
    await asyncio.sleep(0)
    await asyncio.gather(*(world.refresh(cluster) for cluster in good))
    assert not hanging.done()
    for cluster in good:
        assert (await world.target(cluster)).state(world.clock()) == "fresh"
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)
    if silent:
        silent.close()
        await silent.wait_closed()


async def test_all_of_the_fleet_but_the_broken_stay_fresh(world: World) -> None:
    """Longer than a token lives: one refuses, one is down, one answers rubbish, one stands in a hub that is gone."""
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
    told = {
        event["cluster"].rpartition("/")[2]: event["category"]
        for event in world.events.named("fleet.status")[-10:]
        if "category" in event
    }
    assert told == {
        "refusing": "cluster_rbac_denied",
        "down": "cluster_unreachable",
        "rubbish": "cluster_unreachable",
        "gone": "invalid_request",
    }


async def test_a_slow_mint_of_one_hub_is_not_waited_for_by_the_other(world: World) -> None:
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
