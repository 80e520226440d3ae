"""A tick sends the shards that are due, at a cost that does not grow with the fleet, and says what is overdue."""

import asyncio
import gc
from datetime import timedelta
from unittest.mock import AsyncMock

import pytest
from azure.data.tables.aio import TableServiceClient
from azure.functions.timer import TimerRequest

from functions.invocation import run
from functions.schedule import schedule
from pullkeeper import telemetry
from pullkeeper.deadline import deadline, remaining
from pullkeeper.errors import DeadlinePassed
from pullkeeper.fleet.creation import StorageObjects
from pullkeeper.fleet.shard_table import Totals
from pullkeeper.fleet.shards import shard_of
from pullkeeper.fleet.storage import CALL
from pullkeeper.services import Services, _background, _create_and_close, services
from pullkeeper.status import read_status
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers


async def test_only_shards_that_are_due_are_sent(world: World) -> None:
    clusters = [await world.join(f"aks-{n}") for n in range(6)]
    shards = {shard_of(cluster.id) for cluster in clusters}
    assert await world.tick() == len(shards)
    assert world.events.named("run.completed")[0]["overdue"] == 0, "they have only just got their first cluster"
    assert (await world.services.scheduler.run()).queued == 0
    await world.join(world.name_beside(clusters[0]))
    assert await world.tick() == 1, "a cluster has joined it"
    world.clock.advance(20 * MINUTE)
    assert await world.tick() == len(shards)


async def test_the_timer_takes_back_a_problem_of_storage_that_is_solved(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("functions.schedule.services", lambda: world.services)
    objects = world.services.storage_objects
    with monkeypatch.context() as patch:
        patch.setattr("pullkeeper.fleet.creation.QUEUES", ("no-",))
        await objects.create()
    assert "the queue no-" in objects.problems[0].detail
    shown = await read_status(world.services.settings, lambda: world.services)
    assert objects.problems[0] in shown.problems
    await schedule._function.get_user_function()(TimerRequest(past_due=False))
    assert objects.problems == ()


async def test_an_event_loop_that_ends_closes_the_services(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its start queues and tables are created."""
    built, created, closed = world.build_services(), asyncio.Event(), asyncio.Event()
    built._connections.callback(closed.set)

    async def create(_: StorageObjects) -> None:
        created.set()

    monkeypatch.setattr(StorageObjects, "create", create)
    background = asyncio.create_task(_create_and_close(built))
    async with asyncio.timeout(10):
        await created.wait()
    assert not closed.is_set()
    background.cancel()
    await asyncio.wait({background})
    assert closed.is_set()


async def test_a_process_builds_its_services_once_and_collects_garbage_less_often(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, usual, spared = world.build_services(), gc.get_threshold(), gc.get_freeze_count()
    monkeypatch.setattr(Services, "build", lambda *_: built)
    monkeypatch.setattr(telemetry, "documentation", telemetry.documentation)
    gc.set_threshold(700)
    services.cache_clear()
    try:
        assert services() is services() is built
        assert gc.get_threshold() == (20_000, 10, 10)
        assert gc.get_freeze_count() > spared
    finally:
        gc.set_threshold(*usual)
        services.cache_clear()
        background = _background.pop()
        background.cancel()
        await asyncio.wait({background})


async def test_a_shard_without_clusters_is_not_sent_again_and_again(world: World) -> None:
    cluster = await world.join("aks-1")
    await world.tick()
    await world.services.fleet.remove(cluster.id)
    world.clock.advance(25 * MINUTE)
    assert await world.tick() == 1
    assert await world.tick() == 0


async def test_a_run_reports_the_fleet_as_of_the_last_run_of_each_shard(world: World) -> None:
    for n in range(3):
        await world.join(f"aks-{n}")
    await world.tick()
    await world.services.scheduler.run()
    event = world.events.named("run.completed")[-1]
    assert (event["clusters"], event["fresh"], event["queued"], event["overdue"]) == (3, 3, 0, 0)
    assert "remedy" not in event


async def test_a_refresh_that_has_stopped_shows_as_overdue_shards(world: World) -> None:
    cluster = await world.join("aks-1")
    await world.tick()
    world.clock.advance(await world.next_due(cluster) - world.clock())
    await world.services.scheduler.run()
    assert world.events.named("run.completed")[-1]["overdue"] == 0
    for _ in range(2):  # ticks, which come in time
        world.clock.advance(3 * MINUTE)
        await world.services.scheduler.run()
    event = world.events.named("run.completed")[-1]
    assert event["overdue"] == 1
    assert "slow_tick_seconds" not in event
    assert event["remedy"] == telemetry.documentation.figures


async def test_what_a_crash_took_is_sent_again_by_the_next_tick(world: World) -> None:
    """The message itself stays hidden for ten minutes; nothing waits for it."""
    cluster = await world.join("aks-1")
    await world.services.scheduler.run()
    queue = world.services.queues["refresh"]
    await queue._queue.clear_messages()
    world.clock.advance(71 / 60 * MINUTE)
    await world.tick()
    assert (await world.target(cluster)).state(world.clock()) == "fresh"


async def test_a_schedule_too_slow_for_the_shortest_token_life_is_reported(world: World) -> None:
    world.cloud.add_hub("short", lifetime=900)
    await world.join(world.name_beside(await world.join("aks-1", "short")))
    await world.tick()
    world.clock.advance(5 * MINUTE)
    await world.services.scheduler.run()
    event = world.events.named("run.completed")[-1]
    assert 300 <= event["slow_tick_seconds"] < 330
    assert 74 < event["longest_tick_seconds"] <= 75


@pytest.mark.parametrize(("minutes", "is_late"), [(5.9, False), (6.1, True)])
async def test_a_timer_that_is_a_fifth_late_is_reported(
    world: World, caplog: pytest.LogCaptureFixture, minutes: float, *, is_late: bool
) -> None:
    await world.join("aks-1")
    await world.tick()
    now = world.clock()
    await world.services.shards.record_run(now - minutes * MINUTE, now)
    await world.services.scheduler.run()
    event = world.events.named("run.completed")[-1]
    assert event["overdue"] == 0
    [*_, level] = [record.levelname for record in caplog.records if "run.completed" in record.message]
    assert level == ("WARNING" if is_late else "INFO")
    assert ("slow_tick_seconds" in event, event.get("remedy") == telemetry.documentation.figures) == (is_late, is_late)


async def test_refresh_all_sends_one_message_per_shard(world: World) -> None:
    clusters = [await world.join(f"aks-{n}") for n in range(4)]
    await world.tick()
    writes = sum(cluster.part.journal.count("PATCH", "/secrets/") for cluster in clusters)
    await world.services.scheduler.refresh_all_now()
    assert await world.process_queue() == len({shard_of(cluster.id) for cluster in clusters})
    assert writes + 4 == sum(cluster.part.journal.count("PATCH", "/secrets/") for cluster in clusters)


async def test_refresh_now_is_of_one_cluster_alone(world: World) -> None:
    cluster = await world.join("aks-1")
    beside = await world.join(world.name_beside(cluster))
    await world.services.scheduler.refresh_now(cluster.id)
    assert await world.process_queue() == 1
    assert [one.part.journal.count("PATCH", "/secrets/") for one in (cluster, beside)] == [1, 0]


async def test_a_run_that_is_cut_short_is_reported(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang() -> Totals:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(world.services.shards, "totals", hang)
    with pytest.raises(DeadlinePassed):
        await run("schedule", world.services.scheduler.run(), timedelta(milliseconds=50))
    assert world.events.named("run.completed") == [{"event": "run.completed", "clusters": 0, "queued": 0}]


async def test_a_tick_sends_what_is_due_before_all_else_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry, and Google, may take their time."""
    done = AsyncMock()
    monkeypatch.setattr("functions.schedule.services", lambda: done)
    await schedule._function.get_user_function()(TimerRequest(past_due=False))
    first, *others = [name for name, *_ in done.mock_calls]
    assert first == "scheduler.run"
    assert sorted(others) == [
        "federation.probe_held",
        "messages.resume_stalled",
        "retention.remove_expired",
        "storage_objects.create",
    ]


async def test_a_shard_whose_row_was_lost_is_refreshed_within_the_hour(world: World) -> None:
    """By a restore of one table, or by hand."""
    cluster = await world.join("aks-1")
    await world.tick()
    async with TableServiceClient.from_connection_string(world.storage) as tables:
        await tables.get_table_client("shards").delete_entity("shard", shard_of(cluster.id))
    world.clock.advance(55 * MINUTE)
    assert await world.tick() == 0
    world.clock.advance(5 * MINUTE)
    assert await world.tick() == 1
    assert (await world.target(cluster)).state(world.clock()) == "fresh"


async def test_a_run_leaves_the_time_of_a_call_for_its_report(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    totals, left = world.services.shards.totals, list[float]()

    async def noted() -> Totals:
        left.append(remaining(10_000))
        return await totals()

    monkeypatch.setattr(world.services.shards, "totals", noted)
    with deadline(2 * CALL):
        await world.services.scheduler.run()
    assert left[0] <= CALL.total_seconds()
