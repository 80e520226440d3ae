"""A crash of the worker or the host, with the times that were recorded on Microsoft's host."""

from datetime import timedelta
from typing import Final

import pytest
from azure.storage.queue import TextBase64DecodePolicy
from azure.storage.queue.aio import QueueClient

from local.cloud import LocalCluster
from pullkeeper.azure.arm import Arm
from pullkeeper.fleet.mint_table import MintTable
from pullkeeper.fleet.shards import shard_of
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers
_HIDDEN: Final = timedelta(seconds=600)
"""How long a message stays hidden if its process dies."""
_TIMERS_SILENT: Final = timedelta(seconds=71)
_TICK: Final = 5 * MINUTE


@pytest.fixture
async def cluster(world: World) -> LocalCluster:
    """Due just now."""
    cluster = await world.join("aks-1")
    await world.tick()
    world.clock.advance(await world.next_due(cluster) - world.clock())
    return cluster


async def _crash_with_message(world: World) -> str:
    """Queue what is due; the process receives the message and dies. Returns the message."""
    await world.services.scheduler.run()
    async with QueueClient.from_connection_string(
        world.storage, "refresh", message_decode_policy=TextBase64DecodePolicy()
    ) as queue:
        message = await queue.receive_message(visibility_timeout=int(_HIDDEN.total_seconds()))
    assert message is not None
    await world.services.close()
    world._services = None
    return str(message.content)


@pytest.mark.parametrize("tick", [_TICK, _TICK - timedelta(seconds=2)], ids=["on time", "early"])
async def test_the_next_tick_refreshes_what_the_crash_has_hidden(
    world: World, cluster: LocalCluster, tick: timedelta
) -> None:
    assert tick > _TIMERS_SILENT
    before = await world.read_token(cluster)
    await _crash_with_message(world)
    world.clock.advance(tick)
    assert await world.tick() == 1
    assert await world.read_token(cluster) != before


async def test_the_hidden_message_has_nothing_to_do_when_it_returns(world: World, cluster: LocalCluster) -> None:
    """No second write, no error, and no failure is counted."""
    message = await _crash_with_message(world)
    world.clock.advance(_TICK)
    await world.tick()
    writes, mints = cluster.part.journal.count("PATCH", "/secrets/"), world.cloud.google.exchanges
    status = await world.status(cluster)
    world.clock.advance(_HIDDEN - _TICK)
    assert await world.next_due(cluster) > world.clock()
    await world.services.refresher.receive(message.encode())
    assert (writes, mints) == (cluster.part.journal.count("PATCH", "/secrets/"), world.cloud.google.exchanges)
    assert status == await world.status(cluster)
    assert world.events.named("shard.completed")[-1]["ok"] == 0


async def test_a_message_that_returns_before_the_next_refresh_is_processed(world: World, cluster: LocalCluster) -> None:
    """Timers are still silent: the message is as good as a new one."""
    message = await _crash_with_message(world)
    world.clock.advance(_HIDDEN)
    before = await world.read_token(cluster)
    await world.services.refresher.receive(message.encode())
    assert await world.read_token(cluster) != before


async def test_a_message_whose_last_try_has_crashed_is_reported(world: World, cluster: LocalCluster) -> None:
    """Its shard is due all the same, and the next tick sends it again."""
    message = await _crash_with_message(world)
    world.clock.advance(_HIDDEN)
    await world.services.refresher.give_up(message.encode())
    [event] = world.events.named("message.poisoned")
    assert (event["queue"], event["shard"]) == ("refresh", shard_of(cluster.id))
    assert event["detail"] == "each delivery has failed, or ended the process. The next tick sends the shard again"
    assert await world.tick() == 1
    assert (await world.target(cluster)).state(world.clock()) == "fresh"


async def test_what_cannot_be_closed_keeps_nothing_else_open(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an event loop ends in order."""
    closed = list[Arm]()

    async def fail(_: MintTable) -> None:
        raise OSError("no connection")

    async def note(arm: Arm) -> None:
        closed.append(arm)

    monkeypatch.setattr(MintTable, "finish", fail)
    monkeypatch.setattr(Arm, "close", note)
    process = world.build_services()
    with pytest.raises(OSError, match="no connection"):
        await process.close()
    assert len(closed) == 2, "those of both identities"
