"""Killed anywhere and run again, sent twice, sent at once, refused for a while: the end is the same."""

from datetime import timedelta

import pytest

from local.cloud import GROUP, SUBSCRIPTION
from local.serving import Fault
from pullkeeper.errors import ArmThrottled, OperationRunning, PullkeeperError
from pullkeeper.onboarding.phases import OFFBOARD, ONBOARD
from pullkeeper.onboarding.work import Phase, Work
from tests.onboarding.conftest import Onboarding, describe, list_content, list_versions, step

pytestmark = pytest.mark.servers
_NAMES = [phase.NAME for phase in ONBOARD]


class Killed(BaseException):
    """The host is gone: nobody catches this."""


def kill_in(phase: Phase, doing: str, monkeypatch: pytest.MonkeyPatch, *, done: bool) -> None:
    """Have the process die in this phase. done: when its work is done, but nothing is written down."""
    real = getattr(phase, doing)

    async def dies(work: Work) -> str:
        if done:
            await real(work)
        raise Killed

    monkeypatch.setattr(phase, doing, dies)


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("phase", ONBOARD, ids=_NAMES)
async def test_killed_in_any_phase_another_process_brings_it_to_the_same_end(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch, phase: Phase, *, done: bool
) -> None:
    whole, killed = await onboarding.cluster("aks-whole"), await onboarding.cluster("aks-killed")
    workload = {"image": "europe-docker.pkg.dev/p/r/app:1"}
    expected = await onboarding.run({"cluster": str(whole.id), "hub": "main", "workload": workload})
    begun = await onboarding.begin({"cluster": str(killed.id), "hub": "main", "workload": workload})
    with monkeypatch.context() as patch:
        kill_in(phase, "do", patch, done=done)
        with pytest.raises(Killed):
            await onboarding.process(begun.id)
    seen = await onboarding.world.services.onboarder.get_operation(begun.id)
    assert (seen.status, step(seen, phase.NAME).status) == ("Running", "running")

    another = onboarding.world.build_services()
    ended = await onboarding.process(begun.id, by=another)
    await another.close()

    assert ended.status == expected.status == "Succeeded", describe(ended)
    assert [one.status for one in ended.steps] == [one.status for one in expected.steps]
    assert ended.result is not None
    assert expected.result is not None
    assert ended.result.handover == expected.result.handover
    assert await list_content(killed) == await list_content(whole)
    subject = "system:serviceaccount:deepintshield:deepintshield-sa"
    issuers = [onboarding.azure(cluster).oidc_issuer for cluster in (whole, killed)]
    assert sorted(onboarding.credentials().values()) == sorted((issuer, subject) for issuer in issuers)
    assert await onboarding.fleet() == {str(whole.id), str(killed.id)}


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("phase", OFFBOARD, ids=[phase.NAME for phase in OFFBOARD])
async def test_offboarding_killed_in_any_phase_comes_to_its_end(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch, phase: Phase, *, done: bool
) -> None:
    cluster = await onboarding.cluster("aks-1")
    before = set(await list_content(cluster))
    await onboarding.run(
        {"cluster": str(cluster.id), "hub": "main", "workload": {"image": "europe-docker.pkg.dev/p/r/app:1"}}
    )
    begun = await onboarding.world.services.onboarder.offboard(cluster.id, keep_workload=False)
    with monkeypatch.context() as patch:
        kill_in(phase, "undo", patch, done=done)
        with pytest.raises(Killed):
            await onboarding.process(begun.id)

    ended = await onboarding.process(begun.id)

    assert ended.status == "Succeeded", describe(ended)
    assert set(await list_content(cluster)) - before == {"/api/v1/namespaces//deepintshield"}
    assert onboarding.identity() is None
    assert await onboarding.fleet() == set()


async def test_the_same_call_again_changes_nothing_but_the_token(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    body = {"cluster": str(cluster.id), "hub": "main", "workload": {"image": "europe-docker.pkg.dev/p/r/app:1"}}
    first = await onboarding.run(body)
    writes, before = list(onboarding.world.cloud.arm.writes), await list_versions(cluster)

    second = await onboarding.run(body)

    assert second.status == "Succeeded", describe(second)
    assert first.result is not None
    assert second.result is not None
    assert second.result.handover == first.result.handover
    assert onboarding.world.cloud.arm.writes == writes
    assert await list_versions(cluster) == before


async def test_two_at_once_one_runs_and_the_other_is_told_where_to_look(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    first = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    with pytest.raises(OperationRunning) as refused:
        await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    assert refused.value.context["operation"] == f"/api/operations/{first.id}"
    with pytest.raises(OperationRunning):
        await onboarding.world.services.onboarder.offboard(cluster.id, keep_workload=False)

    assert (await onboarding.process(first.id)).status == "Succeeded"
    assert (await onboarding.run({"cluster": str(cluster.id), "hub": "main"})).status == "Succeeded"


async def test_an_abandoned_operation_does_not_block_for_ever_and_does_not_come_back(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    lost = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    onboarding.world.clock.advance(timedelta(minutes=46))
    second = await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    assert second.status == "Succeeded", describe(second)
    gone = await onboarding.offboard(cluster)
    assert gone.status == "Succeeded", describe(gone)

    late = await onboarding.process(lost.id)

    assert late.status == "Failed"
    assert await onboarding.fleet() == set()


async def test_a_message_that_comes_twice_is_done_once(onboarding: Onboarding) -> None:
    """Queues deliver at least once: the host may die between the end and the message's removal."""
    cluster = await onboarding.cluster("aks-1")
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    await onboarding.offboard(cluster)
    assert await onboarding.process(ended.id) == ended
    await onboarding.world.services.onboarder.give_up(ended.id)
    assert await onboarding.world.services.onboarder.get_operation(ended.id) == ended
    assert await onboarding.fleet() == set()


async def test_what_another_try_can_mend_is_tried_again(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.world.cloud.arm_part.faults.add(Fault(method="PUT", times=1))
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    with pytest.raises(ArmThrottled):
        await onboarding.world.services.onboarder.run(begun.id)
    between = await onboarding.world.services.onboarder.get_operation(begun.id)
    assert (between.status, step(between, "identity").category) == ("Running", "arm_throttled")

    cluster.part.faults.add(Fault(path="/serviceaccounts/", method="PATCH", times=3))
    with pytest.raises(PullkeeperError):
        await onboarding.world.services.onboarder.run(begun.id)
    between = await onboarding.world.services.onboarder.get_operation(begun.id)
    assert (between.status, step(between, "manifests").category) == ("Running", "cluster_unreachable")

    ended = await onboarding.world.services.onboarder.run(begun.id)
    assert ended.status == "Succeeded", describe(ended)
    assert {one.category for one in ended.steps} == {None}


async def test_what_only_a_person_can_mend_ends_it_at_once(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.azure(cluster).power_state = "Stopped"
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    assert ended.status == "Failed"
    failed = step(ended, "inspect cluster")
    assert (failed.status, failed.category) == ("failed", "cluster_stopped")
    assert failed.remedy == f"az aks start --subscription {SUBSCRIPTION} --resource-group {GROUP} --name aks-1"
    assert {one.status for one in ended.steps[1:]} == {"pending"}
    assert onboarding.world.cloud.arm.writes == []
    onboarding.azure(cluster).power_state = "Running"
    assert (await onboarding.run({"cluster": str(cluster.id), "hub": "main"})).status == "Succeeded"


async def test_what_the_queue_gave_up_has_failed_for_the_reason_of_its_last_step(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.world.cloud.arm_part.faults.add(Fault())
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    assert ended.status == "Failed"
    assert step(ended, "inspect cluster").category == "arm_throttled"
    [event] = onboarding.world.events.named("operation.completed")
    assert (event["status"], event["category"]) == ("Failed", "arm_throttled")


async def test_a_host_that_always_dies_leaves_a_failed_operation_with_a_reason(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = await onboarding.cluster("aks-1")
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    kill_in(ONBOARD[1], "do", monkeypatch, done=False)
    with pytest.raises(Killed):
        await onboarding.process(begun.id)
    await onboarding.world.services.onboarder.give_up(begun.id)
    ended = await onboarding.world.services.onboarder.get_operation(begun.id)
    assert ended.status == "Failed"
    assert (step(ended, "identity").status, step(ended, "identity").category) == ("failed", "internal")
