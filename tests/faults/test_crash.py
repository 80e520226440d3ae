"""A crash of the worker or the host, with the times that were recorded on Microsoft's host."""

from datetime import timedelta
from typing import Final

import pytest
from azure.storage.queue import TextBase64DecodePolicy
from azure.storage.queue.aio import QueueClient

from local.cloud import LocalCluster
from pullkeeper.model import RefreshMessage
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers
_HIDDEN: Final = timedelta(seconds=600)
"""How long a message stays hidden if its process dies."""
_TIMERS_SILENT: Final = timedelta(seconds=71)
_TICK: Final = 5 * MINUTE


@pytest.fixture
async def cluster(world: World) -> LocalCluster:
    """Refreshed 25 minutes ago, and due."""
    cluster = await world.join("aks-1")
    await world.tick()
    world.clock.advance(5 * _TICK)
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


@pytest.mark.parametrize("returns_as", ["message", "poison"])
async def test_the_hidden_message_has_nothing_to_do_when_it_returns(
    world: World, cluster: LocalCluster, returns_as: str
) -> None:
    """No second write, no error, and no failure is counted. After its fifth crash it returns as poison."""
    message = await _crash_with_message(world)
    world.clock.advance(_TICK)
    await world.tick()
    writes, mints = cluster.part.journal.count("PATCH", "/secrets/"), world.cloud.google.exchanges
    status, events = await world.status(cluster), len(world.events.seen)
    world.clock.advance(_HIDDEN - _TICK)
    if returns_as == "message":
        await world.services.refresher.refresh(RefreshMessage.parse(message))
    else:
        await world.services.refresher.give_up(message.encode())
    assert (writes, mints) == (cluster.part.journal.count("PATCH", "/secrets/"), world.cloud.google.exchanges)
    assert (status, events) == (await world.status(cluster), len(world.events.seen))


async def test_a_message_that_returns_before_the_next_refresh_is_processed(world: World, cluster: LocalCluster) -> None:
    """Timers are still silent: the message is as good as a new one."""
    message = await _crash_with_message(world)
    world.clock.advance(_HIDDEN)
    before = await world.read_token(cluster)
    await world.services.refresher.refresh(RefreshMessage.parse(message))
    assert await world.read_token(cluster) != before


async def test_a_message_whose_last_try_has_crashed_is_reported(world: World, cluster: LocalCluster) -> None:
    message = await _crash_with_message(world)
    world.clock.advance(_HIDDEN)
    await world.services.refresher.give_up(message.encode())
    [event] = world.events.named("message.poisoned")
    assert event["failures"] == 1
    assert (await world.status(cluster)).next_due <= world.clock()


async def test_a_message_between_two_tries_is_not_queued_again(world: World, cluster: LocalCluster) -> None:
    """A try that fails proves that the message is alive: the lease begins again."""
    await world.services.scheduler.run()
    await cluster.server.stop()
    world.clock.advance(2 * MINUTE)
    assert await world.refresh_category(cluster, "due") == "cluster_unreachable"
    world.clock.advance(MINUTE)
    assert (await world.services.scheduler.run()).queued == 0
