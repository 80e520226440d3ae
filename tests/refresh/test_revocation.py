"""A token that is revoked before its end is noticed, and replaced in the whole fleet."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from azure.core.exceptions import ServiceResponseError
from azure.data.tables.aio import TableClient
from azure.functions.timer import TimerRequest

from functions.schedule import schedule
from local.cloud import LocalCluster
from local.serving import Fault
from pullkeeper.errors import StorageUnavailable
from pullkeeper.refresh.revocation import _REPLACEMENTS
from pullkeeper.services import Services
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers
_TIMER = schedule._function.get_user_function()


@pytest.fixture(autouse=True)
def _app(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the timer use the services of the test's world."""
    monkeypatch.setattr("functions.schedule.services", lambda: world.services)


async def _join_two(world: World) -> list[LocalCluster]:
    clusters = [await world.join("aks-1"), await world.join("aks-2")]
    await world.tick()
    return clusters


async def _tick(world: World, time: timedelta = 5 * MINUTE) -> None:
    """Let time pass, run the timer, and process the queue."""
    world.clock.advance(time)
    await _TIMER(TimerRequest(past_due=False))
    await world.process_queue()


async def _is_accepted(world: World, cluster: LocalCluster) -> bool:
    return world.cloud.google.lookup(await world.read_token(cluster)) is not None


async def test_the_next_tick_replaces_a_revoked_token_in_the_whole_fleet(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    clusters = await _join_two(world)
    accepted_until = world.clock()
    world.cloud.google.revoke_all()
    assert not any([await _is_accepted(world, cluster) for cluster in clusters])

    world.clock.advance(5 * MINUTE)
    await _TIMER(TimerRequest(past_due=False))

    [event] = world.events.named("token.revoked")
    await world.process_queue()
    assert all([await _is_accepted(world, cluster) for cluster in clusters])
    assert event["queued"] == 2
    assert event["provider"].endswith("/main-azure-provider")
    assert datetime.fromisoformat(event["accepted_at"]) <= accepted_until
    assert [one.levelname for one in caplog.records if one.message.startswith("token.revoked")] == ["WARNING"]


async def test_a_refresh_notices_it_too(world: World) -> None:
    """One cluster is due before the others, and before the timer comes."""
    clusters = await _join_two(world)
    world.cloud.google.revoke_all()
    world.clock.advance(4.5 * MINUTE)
    await world.refresh(clusters[0], "due")
    assert await world.process_queue() == 2
    assert all([await _is_accepted(world, cluster) for cluster in clusters])


async def test_only_one_process_replaces_it(world: World) -> None:
    """Others that hold the token drop it, and queue nothing."""
    clusters = await _join_two(world)
    first, second = world.services, world.build_services()
    await _hold_a_token(world, second, clusters[0])
    world.cloud.google.revoke_all()
    world.clock.advance(5 * MINUTE)
    for process in (first, second):
        await process.federation.probe_held()
    assert [event["queued"] for event in world.events.named("token.revoked")] == [2, 0]
    assert await world.process_queue() == 2

    # A second time, it may be the other one.
    world.cloud.google.revoke_all()
    world.clock.advance(5 * MINUTE)
    for process in (second, first):
        await process.federation.probe_held()
    assert [event["queued"] for event in world.events.named("token.revoked")][2:] == [2, 0]
    await second.close()


async def test_each_hub_is_replaced_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """But a token that was accepted at the very time of the replacement may have been revoked after it."""
    await _join_two(world)
    replace, accepted_at = world.services.federation._replace_revoked, world.clock()
    assert [await replace(hub, accepted_at) for hub in ("one", "other", "one")] == [2, 2, 0]
    monkeypatch.setattr(replace.__self__, "_clock", lambda: accepted_at)  # type: ignore[attr-defined]
    assert [await replace("third", accepted_at) for _ in range(2)] == [2, 2]


async def _hold_a_token(world: World, process: Services, cluster: LocalCluster) -> None:
    first, world._services = world._services, process
    await world.refresh(cluster)
    world._services = first


async def test_a_refresh_by_hand_never_writes_a_token_that_was_revoked(world: World) -> None:
    """Not even one that is seconds old: it may be the reason for the refresh."""
    [cluster, _] = await _join_two(world)
    world.cloud.google.revoke_all()
    world.clock.advance(timedelta(seconds=5))
    await world.refresh(cluster, "manual")
    assert await _is_accepted(world, cluster)


async def test_a_registry_that_refuses_new_tokens_too_is_no_revocation(world: World) -> None:
    """Nothing better could be written: the fleet keeps its secrets, and each refresh says why."""
    [cluster, _] = await _join_two(world)
    before = await world.read_token(cluster)
    account = f"serviceAccount:{world.cloud.hubs['main'].service_account}"
    world.cloud.registries[0].revoke("deepintshield-images/main", account)
    await _tick(world)
    assert world.events.named("token.revoked") == []
    assert await world.read_token(cluster) == before
    assert await world.refresh_category(cluster) == "registry_denied"


async def test_a_right_that_comes_back_after_the_tokens_end_is_no_revocation(world: World) -> None:
    await _join_two(world)
    registry, account = world.cloud.registries[0], f"serviceAccount:{world.cloud.hubs['main'].service_account}"
    registry.revoke("deepintshield-images/main", account)
    await _tick(world)
    registry.grant("deepintshield-images/main", account)
    await _tick(world, 65 * MINUTE)
    assert world.events.named("token.revoked") == []


async def test_a_token_that_has_come_to_its_end_is_no_revocation(world: World) -> None:
    """The last probe was a minute before, and the registry refuses it from then on."""
    [cluster, _] = await _join_two(world)
    world.clock.advance(59 * MINUTE)
    await world.services.federation.probe_held()
    world.clock.advance(2 * MINUTE)
    await world.services.federation.probe_held()
    await world.refresh(cluster, "manual")
    assert world.events.named("token.revoked") == []


async def test_a_registry_that_does_not_answer_is_no_revocation(world: World) -> None:
    await _join_two(world)
    world.cloud.registry_parts[0].faults.add(Fault(drop=True))
    world.clock.advance(5 * MINUTE)
    await world.services.federation.probe_held()
    assert world.cloud.registry_parts[0].faults.have_fired
    assert world.events.named("token.revoked") == []
    assert world.cloud.google.exchanges == 1


async def test_a_held_token_is_probed_once_in_a_few_minutes(world: World) -> None:
    clusters = await _join_two(world)
    journal = world.cloud.registry_parts[0].journal
    journal.requests.clear()
    await _tick(world, 4.5 * MINUTE)
    for cluster in clusters:
        await world.refresh(cluster, "due")
    await world.services.federation.probe_held()
    assert journal.count("GET", "/v2/token") == 1
    world.clock.advance(1.5 * MINUTE)
    await world.services.federation.token(world.services.settings.hubs["main"])
    assert world.cloud.google.exchanges == 2, "a twelfth of its life has passed, however lately it was probed"
    await _tick(world, timedelta(hours=1))
    assert all([await _is_accepted(world, cluster) for cluster in clusters])
    assert world.events.named("token.revoked") == []


async def test_a_token_is_not_probed_while_another_one_is_minted(world: World) -> None:
    """Were it refused then, the new one would be dropped."""
    await _join_two(world)
    [mint] = world.services.federation._mints.values()
    world.clock.advance(5 * MINUTE)
    async with mint.lock:
        probing = asyncio.create_task(world.services.federation.probe_held())
        await asyncio.wait({probing}, timeout=0.3)
        assert not probing.done()
    await probing


async def test_a_registry_that_hangs_delays_no_other_hub(world: World) -> None:
    world.cloud.add_hub("other")
    await world.join("aks-3", "other")
    await _join_two(world)
    fault = Fault(path="/v2/token", hang=True, times=2)
    world.cloud.registry_parts[0].faults.add(fault)
    world.clock.advance(5 * MINUTE)
    probing = asyncio.create_task(world.services.federation.probe_held())
    async with asyncio.timeout(5):
        while fault.times:  # noqa: ASYNC110 - a stand-in has no event for it
            await asyncio.sleep(0.01)
    probing.cancel()


@pytest.mark.parametrize("call", ["get_entity", "create_entity"])
async def test_storage_that_fails_is_reported_with_the_revocation(
    world: World, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The caller gets its token all the same."""
    make_call = getattr(TableClient, call)
    [cluster, _] = await _join_two(world)
    world.cloud.google.revoke_all()
    world.clock.advance(5 * MINUTE)

    async def fail(*args: Any, **options: Any) -> Any:
        if _REPLACEMENTS in str(args):
            raise ServiceResponseError("no response")
        return await make_call(*args, **options)

    monkeypatch.setattr(TableClient, call, fail)
    assert await world.refresh_category(cluster, "due") == "ok"
    [event] = world.events.named("token.revoked")
    failure = StorageUnavailable("tables: ServiceResponseError: no response")
    assert (event["category"], event["detail"], event["remedy"]) == (failure.category, failure.detail, failure.remedy)
