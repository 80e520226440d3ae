"""The older CronJob beside Pullkeeper: what each leaves on a watch, and how one takes over from the other."""

import itertools
from pathlib import Path

import pytest
import pytest_asyncio

from local.kubernetes.apiserver import RealApiServer
from pullkeeper.model import Target
from tests.contract.conversation import Caller
from tests.real.conftest import ACCOUNT, Join, pulled
from tests.real.cronjob import CronJob, service_account
from tests.real.kubectl import Kubectl
from tests.real.watch import Event, watching
from tests.world import MINUTE, World

pytestmark = pytest.mark.usefixtures("gcloud", "kubectl")


@pytest_asyncio.fixture(loop_scope="session")
async def pods(server: RealApiServer, admin: Caller, target: Target, tmp_path: Path) -> Kubectl:
    """As the job's pods have it: with the rights of its service account."""
    token = await service_account(admin, target.namespace, ACCOUNT)
    return Kubectl(server, {"token": token}, target.namespace, tmp_path / "job")


@pytest.fixture
def job(world: World, pods: Kubectl, target: Target, tmp_path: Path) -> CronJob:
    return CronJob(world, pods, target, tmp_path / "job", itertools.count())


async def run(job: CronJob) -> None:
    ran = await job.run()
    assert ran.code == 0, ran.errors
    assert "Secret refreshed at" in ran.output


async def test_as_printed_it_gets_no_token_and_leaves_the_secret_alone(
    job: CronJob, admin: Caller, target: Target
) -> None:
    async with watching(admin, target.namespace) as watch:
        ran = await job.run(as_printed=True)
        assert ran.code == 1
        assert "You do not currently have an active account selected." in ran.errors
        assert await watch.events(target.secret) == []


async def test_each_of_its_runs_is_a_while_without_a_secret_and_then_another_secret(
    job: CronJob, admin: Caller, target: Target
) -> None:
    await run(job)
    async with watching(admin, target.namespace) as watch:
        await run(job)
        await run(job)
        events = await watch.events(target.secret)

    assert [event.kind for event in events] == ["DELETED", "ADDED"] * 2
    first, second, again, third = [event.uid for event in events]
    assert second == again
    assert len({first, second, third}) == 3
    gaps = windows(events)
    assert min(gaps) > 0
    print(f"without a secret for {gaps} ms; UIDs {first}, {second}, {third}")


def windows(events: list[Event]) -> list[int]:
    """Milliseconds between a deletion and the next creation, as a watcher sees them."""
    pairs = itertools.pairwise(events)
    return [round(1000 * (after.at - gone.at)) for gone, after in pairs if gone.kind == "DELETED"]


async def test_its_secret_is_taken_over_in_place_and_never_missing_again(
    world: World, join: Join, job: CronJob, admin: Caller, target: Target
) -> None:
    await run(job)
    cluster = await join(adopt=True)
    left = (await cluster.admin.read_secret(target.namespace, target.secret))["metadata"]["uid"]
    tokens = {await world.read_token(cluster)}
    async with watching(admin, target.namespace) as watch:
        await world.refresh(cluster, "manual")
        for _ in range(10):
            world.clock.advance(25 * MINUTE)
            await world.refresh(cluster)
            tokens.add(await world.read_token(cluster))
        events = await watch.events(target.secret)

    assert [event["detail"] for event in world.events.named("drift.repaired")] == ["adopted from kubectl-create"]
    assert {"MODIFIED"} == {event.kind for event in events}
    assert {left} == {event.uid for event in events}
    assert len(tokens) == 11
    assert windows(events) == []
    assert await pulled(world, cluster)


async def test_side_by_side_only_the_job_deletes(
    world: World, join: Join, job: CronJob, admin: Caller, target: Target
) -> None:
    """While the guide's CronJob runs, the app adopts the secret again after each run. No pull fails."""
    cluster = await join(adopt=True)
    async with watching(admin, target.namespace) as watch:
        await world.refresh(cluster)
        for _ in range(2):
            await run(job)
            assert await pulled(world, cluster)
            await world.refresh(cluster)
            assert await pulled(world, cluster)
        events = await watch.events(target.secret)

    assert ["ADDED", *["DELETED", "ADDED", "MODIFIED"] * 2] == [event.kind for event in events]
    assert [event["detail"] for event in world.events.named("drift.repaired")] == ["adopted from kubectl-create"] * 2


async def test_without_leave_to_adopt_the_job_keeps_its_secret(
    world: World, join: Join, job: CronJob, admin: Caller, target: Target
) -> None:
    await run(job)
    cluster = await join()
    async with watching(admin, target.namespace) as watch:
        assert await world.refresh_category(cluster) == "secret_conflict"
        assert await watch.events(target.secret) == []
    assert await pulled(world, cluster)
