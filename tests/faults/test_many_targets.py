"""A cluster with many targets: what one namespace does delays and hides none of the others."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from typing import Final

import pytest

from local.cloud import LocalCluster
from local.kubernetes import recordings
from local.serving import Fault
from pullkeeper.deadline import remaining
from pullkeeper.errors import ClusterTlsUntrusted, ClusterUnauthorized, ClusterUnreachable, PullkeeperError
from pullkeeper.fleet.shards import shard_of
from pullkeeper.fleet.status import Status
from pullkeeper.fleet.table import Member
from pullkeeper.model import Target
from pullkeeper.refresh.capacity import Capacity
from pullkeeper.refresh.lanes import Watch, write_all
from pullkeeper.refresh.outcomes import Kept, Outcome
from pullkeeper.refresh.pace import next_due
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers
_TARGETS: Final = [Target(namespace=f"team-{number:02}") for number in range(40)]
_HANGING: Final = r"/namespaces/team-0[0-5]/secrets/"


async def _join(world: World) -> LocalCluster:
    return await world.join("aks-1", targets=_TARGETS)


def _categories(status: Status) -> dict[str, str]:
    """The failures by namespace."""
    return {str(name).partition("/")[0]: one.category for name, one in status.targets.items() if one.category}


async def _list_refreshed(world: World, cluster: LocalCluster, since: datetime) -> list[str]:
    targets = (await world.status(cluster)).targets
    return [name for name, one in targets.items() if one.last_success and one.last_success >= since]


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that hangs is given up after two seconds, instead of 5 and 10."""
    for name in ("_PATIENCE", "_PATIENCE_WITH_SUSPECTS"):
        monkeypatch.setattr(f"pullkeeper.refresh.lanes.{name}", timedelta(seconds=2))


@pytest.mark.parametrize(
    ("case", "category"),
    [
        ("forbidden", "cluster_rbac_denied"),
        ("namespace-missing", "namespace_missing"),
        ("namespace-terminating", "namespace_terminating"),
        ("quota", "quota_exceeded"),
        ("webhook-down", "admission_denied"),
    ],
)
async def test_a_namespace_that_refuses_hides_no_other(world: World, case: str, category: str) -> None:
    cluster = await _join(world)
    cluster.part.faults.add(recordings.fault(case, method="PATCH", path="/namespaces/team-03/secrets/"))
    status = await world.refresh(cluster)
    assert _categories(status) == {"team-03": category}
    assert len(status.targets) == 40
    failed, well = status.targets["team-03/ar-pull-secret"], status.targets["team-04/ar-pull-secret"]
    assert (failed.failures, failed.last_success) == (1, None)
    assert "<" not in (failed.remedy or ""), "every name is filled in"
    assert (failed.next_due - world.clock() < MINUTE) is (case == "webhook-down")
    assert well.last_success


async def test_all_targets_of_a_cluster_that_has_moved_are_written_at_its_new_address(world: World) -> None:
    cluster = await _join(world)
    endpoint = cluster.member.endpoint.model_copy(update={"server": "https://moved.invalid"})
    await world.services.fleet.register(Member(cluster.member.cluster, endpoint))
    status = await world.refresh(cluster)
    assert _categories(status) == {}
    assert status.endpoint
    assert status.endpoint.server == cluster.server.url


async def test_each_response_of_a_cluster_gives_it_more_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    renewed = list[object]()
    monkeypatch.setattr(Capacity, "_renew", lambda _, limit: renewed.append(limit))
    await world.refresh(await _join(world))
    assert len(renewed) == len(_TARGETS)


async def test_a_silent_namespace_does_not_make_its_cluster_a_suspect(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a suspect never gets a place."""
    cluster = await world.join("aks-1", targets=_TARGETS[:2])
    cluster.part.faults.add(Fault(path="/namespaces/team-00/secrets/", method="PATCH", drop=True))
    assert _categories(await world.refresh(cluster)) == {"team-00": "cluster_unreachable"}
    cluster.part.faults.clear()
    monkeypatch.setattr(world.services.refresher, "_capacity", Capacity(suspects=0))
    async with asyncio.timeout(10):
        assert _categories(await world.refresh(cluster)) == {}


async def test_a_cluster_that_answers_with_errors_is_called_for_each_of_its_targets(world: World) -> None:
    cluster = await _join(world)
    cluster.part.faults.add(Fault(path="/secrets/", method="PATCH", status=500))
    await world.refresh(cluster)
    called = {one.path for one in cluster.part.journal.requests if "/secrets/" in one.path}
    assert len(called) == len(_TARGETS)


async def test_a_namespace_that_was_too_slow_gets_more_time_at_the_next_try(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pullkeeper.refresh.lanes._PATIENCE", timedelta(seconds=1))
    cluster = await _join(world)
    slow = Fault(path="/namespaces/team-00/secrets/", method="PATCH", delay=timedelta(seconds=2), slow_only=True)
    cluster.part.faults.add(slow)
    assert _categories(await world.refresh(cluster)) == {"team-00": "cluster_unreachable"}
    assert _categories(await world.refresh(cluster)) == {}


@pytest.mark.usefixtures("short_patience")
async def test_namespaces_that_hang_are_given_up_and_the_others_refreshed(world: World) -> None:
    """Six hang, and there are four connections."""
    cluster = await _join(world)
    cluster.part.faults.add(Fault(path=_HANGING, method="PATCH", hang=True))
    status = await world.refresh(cluster)
    assert _categories(status) == {f"team-0{number}": "cluster_unreachable" for number in range(6)}
    assert cluster.part.journal.count("PATCH", "/secrets/") == 40


@pytest.mark.usefixtures("short_patience")
async def test_namespaces_that_are_known_to_hang_hold_no_other_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share one connection, so the others have ended, and are recorded, long before."""
    cluster = await _join(world)
    cluster.part.faults.add(Fault(path=_HANGING, method="PATCH", hang=True))
    await world.refresh(cluster)
    monkeypatch.setattr("pullkeeper.refresh.lanes._PATIENCE_WITH_SUSPECTS", timedelta(seconds=30))
    world.clock.advance(25 * MINUTE)
    began, refresh = world.clock(), asyncio.create_task(world.refresh(cluster))
    async with asyncio.timeout(20):
        while len(await _list_refreshed(world, cluster, began)) < 34:
            assert not refresh.done()
            await asyncio.sleep(0.05)
    refresh.cancel()
    await asyncio.wait({refresh})


@pytest.mark.usefixtures("short_patience")
async def test_a_silent_cluster_is_not_called_for_each_of_its_targets(world: World) -> None:
    cluster = await _join(world)
    await world.refresh(cluster)
    cluster.part.faults.add(Fault(path="/secrets/", method="PATCH", hang=True))
    before = cluster.part.journal.count("PATCH", "/secrets/")
    world.clock.advance(25 * MINUTE)
    status = await world.refresh(cluster)
    assert set(_categories(status).values()) == {"cluster_unreachable"}
    assert len(_categories(status)) == 40
    assert cluster.part.journal.count("PATCH", "/secrets/") - before <= 6


@pytest.mark.parametrize("kind", [ClusterUnreachable, ClusterTlsUntrusted, ClusterUnauthorized])
@pytest.mark.parametrize(("silent", "called"), [(3, 40), (4, 4)])
async def test_four_calls_without_a_response_and_none_with_one_are_a_silent_cluster(
    kind: type[PullkeeperError], silent: int, called: int
) -> None:
    calls = list[Target]()

    async def call(target: Target) -> Outcome:
        calls.append(target)
        return kind("no response") if len(calls) <= silent else Kept(None)

    outcomes = await write_all(_TARGETS, call, lambda _: False, Watch())
    assert len(calls) == called
    assert outcomes.keys() == {*_TARGETS}


@pytest.mark.parametrize(("targets", "seconds"), [(4, 1000), (5, 5)])
async def test_up_to_four_targets_have_the_time_of_their_cluster(targets: int, seconds: float) -> None:
    left = list[float]()

    async def call(_: Target) -> Outcome:
        left.append(remaining(1000))
        return Kept(None)

    await write_all(_TARGETS[:targets], call, lambda _: False, Watch())
    assert left == [pytest.approx(seconds, abs=1)] * targets


async def test_what_has_failed_shares_one_connection_and_gets_more_time() -> None:
    running, most, left = Counter[bool](), Counter[bool](), dict[bool, float]()

    def has_failed(target: Target) -> bool:
        return target in _TARGETS[:20]

    async def call(target: Target) -> Outcome:
        lane = has_failed(target)
        running[lane] += 1
        most[lane] = max(most[lane], running[lane])
        left[lane] = remaining(1000)
        await asyncio.sleep(0.001)
        running[lane] -= 1
        return Kept(None)

    await write_all(_TARGETS, call, has_failed, Watch())
    assert most == {False: 3, True: 1}
    assert 4 < left[False] <= 5
    assert 9 < left[True] <= 10


async def test_targets_back_off_one_by_one(world: World) -> None:
    cluster = await _join(world)
    cluster.part.faults.add(recordings.fault("timed-out", method="PATCH", path="/namespaces/team-03/secrets/"))
    await world.refresh(cluster)
    status = await world.refresh(cluster)
    failures = {name: one.failures for name, one in status.targets.items() if one.failures}
    assert failures == {"team-03/ar-pull-secret": 2}
    assert status.targets["team-03/ar-pull-secret"].next_due - world.clock() < MINUTE
    on_time = next_due(shard_of(cluster.id), 60 * MINUTE, world.clock())
    assert status.targets["team-04/ar-pull-secret"].next_due == on_time


async def test_what_there_is_no_time_for_is_left_to_another_message(world: World) -> None:
    cluster = await _join(world)

    def count() -> int:
        return cluster.part.journal.count("PATCH", "/secrets/")

    async def let_two_minutes_pass() -> None:
        while count() < 10:  # noqa: ASYNC110 - the journal tells no one
            await asyncio.sleep(0)
        world.clock.advance(2 * MINUTE)

    status, _ = await asyncio.gather(world.refresh(cluster), let_two_minutes_pass())
    assert 10 <= len(status.targets) < 20
    assert _categories(status) == {}
    await world.process_queue()
    assert len((await world.status(cluster)).targets) == 40
    assert count() == 40
