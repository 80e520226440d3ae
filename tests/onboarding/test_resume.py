"""Killed anywhere and run again, delivered twice, refused for a while: the end is the same."""

from contextlib import nullcontext
from datetime import timedelta
from functools import partial

import pytest
from azure.functions.timer import TimerRequest

from functions.schedule import schedule
from local.cloud import GROUP, SUBSCRIPTION
from local.serving import Fault
from pullkeeper.errors import OperationRunning
from pullkeeper.onboarding.documents import OnboardingMessage
from pullkeeper.onboarding.phases import OFFBOARD, ONBOARD, handover
from pullkeeper.onboarding.work import Phase, Work
from tests.onboarding.conftest import (
    SUBJECT,
    WORKLOAD,
    Onboarding,
    describe,
    list_content,
    list_versions,
    seconds_to_next,
    step,
)

pytestmark = pytest.mark.servers
INVISIBLE = timedelta(minutes=10)
"""For how long the host hides the message of an invocation whose process died (facts of the real host)."""
TICK = timedelta(minutes=5)
NO_TIMER = timedelta(seconds=71)
"""For how long timers stay silent after a crash."""


class Killed(BaseException):
    """The process has ended: no code catches this."""


def kill_in(phase: Phase, doing: str, monkeypatch: pytest.MonkeyPatch, *, done: bool) -> None:
    """Let the process end in this phase. done: after its work, before that is recorded; else before its work."""
    real = getattr(phase, doing)

    async def die(work: Work) -> str:
        if done:
            await real(work)
        raise Killed

    monkeypatch.setattr(phase, doing, die)


async def kill_once(onboarding: Onboarding, operation: str, phase: Phase, doing: str, *, done: bool = True) -> None:
    """Deliver a message of the operation, kill the process in this phase, and let the timer resume the operation."""
    with pytest.MonkeyPatch.context() as patch:
        kill_in(phase, doing, patch, done=done)
        with pytest.raises(Killed):
            await onboarding.deliver(operation)
    seen = await onboarding.world.services.onboarder.get_operation(operation)
    assert seen.status == "Running"
    assert step(seen, phase.NAME).status == ("pending" if phase is handover else "running")
    onboarding.world.clock.advance(TICK)
    await onboarding.world.services.messages.resume_stalled()


@pytest.mark.usefixtures("any_number_of_tries")
async def test_killed_after_every_phase_it_comes_to_the_same_end_and_so_does_offboarding(
    onboarding: Onboarding,
) -> None:
    whole, killed = await onboarding.cluster("aks-whole"), await onboarding.cluster("aks-killed")
    before = await list_content(killed)
    wanted = {"workload": WORKLOAD, "identity": "shop-pull"}
    expected = await onboarding.onboard(whole, **wanted)
    begun = await onboarding.begin({"cluster": str(killed.id), "hub": "main", **wanted})
    for phase in ONBOARD:
        await kill_once(onboarding, begun.id, phase, "do")
    another = onboarding.world.build_services()
    ended = await onboarding.process(begun.id, by=another)
    await another.close()

    assert ended.status == "Succeeded", describe(ended)
    assert [one.status for one in ended.steps] == [one.status for one in expected.steps]
    assert ended.result is not None
    assert expected.result is not None
    assert ended.result.handover == expected.result.handover
    assert await list_content(killed) == await list_content(whole)
    issuers = [onboarding.azure(cluster).oidc_issuer for cluster in (whole, killed)]
    assert sorted(onboarding.credentials("shop-pull").values()) == sorted((issuer, SUBJECT) for issuer in issuers)
    assert await onboarding.fleet() == {str(whole.id), str(killed.id)}

    begun = await onboarding.world.services.onboarder.offboard(killed.id, keep_workload=False)
    for phase in OFFBOARD:
        await kill_once(onboarding, begun.id, phase, "undo")
    ended = await onboarding.process(begun.id)
    assert ended.status == "Succeeded", describe(ended)
    assert set(await list_content(killed)) - set(before) == {"/api/v1/namespaces//deepintshield"}
    assert [pair[0] for pair in onboarding.credentials("shop-pull").values()] == [issuers[0]]
    assert await onboarding.fleet() == {str(whole.id)}


async def test_after_a_crash_the_next_tick_goes_on_and_the_old_message_finds_nothing_to_do(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the times of the real host: the message comes back long after the timer has sent the work again."""
    monkeypatch.setattr("functions.schedule.services", lambda: onboarding.world.services)
    tick = partial(schedule._function.get_user_function(), TimerRequest(past_due=False))
    cluster, clock = await onboarding.cluster("aks-1"), onboarding.world.clock
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    runner, crashed_at = onboarding.world.services.runner, clock()
    with pytest.MonkeyPatch.context() as patch:
        kill_in(ONBOARD[2], "do", patch, done=False)
        with pytest.raises(Killed):
            await onboarding.deliver(begun.id)

    clock.advance(NO_TIMER)
    await tick()
    assert (await onboarding.read_stored(begun.id)).due is None, "the invocation may still be at work"
    clock.advance(TICK)
    await tick()
    ended = await onboarding.deliver(begun.id)
    assert ended.status == "Succeeded", describe(ended)
    assert clock() - crashed_at < INVISIBLE

    clock.advance(crashed_at + INVISIBLE - clock())
    writes, before = list(onboarding.world.cloud.arm.writes), await list_versions(cluster)
    assert await runner.run(OnboardingMessage(operation=begun.id)) == ended
    assert (onboarding.world.cloud.arm.writes, await list_versions(cluster)) == (writes, before)


async def test_the_old_message_of_a_crash_finds_nothing_to_do_while_the_operation_goes_on(
    onboarding: Onboarding,
) -> None:
    cluster = await onboarding.cluster("aks-1")
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    await kill_once(onboarding, begun.id, ONBOARD[2], "do", done=False)
    between = await onboarding.read_stored(begun.id)
    await onboarding.world.services.runner.run(OnboardingMessage(operation=begun.id))
    await onboarding.world.services.runner.give_up(OnboardingMessage(operation=begun.id))
    after = await onboarding.read_stored(begun.id)
    assert (after.operation, after.etag) == (between.operation, between.etag)


async def test_the_timer_asks_only_for_operations_that_have_not_ended(onboarding: Onboarding) -> None:
    cluster, operations = await onboarding.cluster("aks-1"), onboarding.world.services.runner._operations
    await onboarding.onboard(cluster)
    assert await operations.list_running() == []
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    assert await operations.list_running() == [begun.id]


async def test_the_same_call_again_changes_nothing_but_the_token(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    first = await onboarding.onboard(cluster, workload=WORKLOAD)
    writes, before = list(onboarding.world.cloud.arm.writes), await list_versions(cluster)

    second = await onboarding.onboard(cluster, workload=WORKLOAD)

    assert first.result is not None
    assert second.result is not None
    assert second.result.handover == first.result.handover
    assert onboarding.world.cloud.arm.writes == writes
    assert await list_versions(cluster) == before


async def test_while_one_operation_runs_another_call_gets_its_address(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    first = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    with pytest.raises(OperationRunning) as refused:
        await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    assert refused.value.context["operation"] == f"/api/operations/{first.id}"
    with pytest.raises(OperationRunning):
        await onboarding.world.services.onboarder.offboard(cluster.id, keep_workload=False)

    assert (await onboarding.process(first.id)).status == "Succeeded"
    await onboarding.onboard(cluster)


async def test_an_abandoned_operation_does_not_block_for_ever_and_does_not_come_back(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = await onboarding.cluster("aks-1")
    lost = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    with monkeypatch.context() as patch:
        kill_in(ONBOARD[2], "do", patch, done=False)
        with pytest.raises(Killed):
            await onboarding.deliver(lost.id)
    onboarding.world.clock.advance(timedelta(minutes=44))
    assert not (await onboarding.read_stored(lost.id)).is_abandoned(onboarding.world.clock())
    onboarding.world.clock.advance(timedelta(minutes=2))
    await onboarding.onboard(cluster)
    await onboarding.offboard_fully(cluster)

    late = await onboarding.process(lost.id)

    assert late.status == "Failed"
    assert await onboarding.fleet() == set()


async def test_an_operation_that_waits_for_longer_than_that_is_not_abandoned(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.world.cloud.arm_part.faults.add(Fault(status=429, headers={"Retry-After": "3600"}))
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    await onboarding.deliver(begun.id)
    onboarding.world.clock.advance(timedelta(minutes=50))
    with pytest.raises(OperationRunning):
        await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})


async def test_an_operation_that_is_queued_for_hours_is_not_abandoned(onboarding: Onboarding) -> None:
    """A thousand others are before it."""
    cluster = await onboarding.cluster("aks-1")
    await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    for passed, blocks in ((23, True), (2, False)):
        onboarding.world.clock.advance(timedelta(hours=passed))
        with pytest.raises(OperationRunning) if blocks else nullcontext():
            await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})


async def test_a_message_that_is_delivered_twice_is_processed_once(onboarding: Onboarding) -> None:
    """Queues deliver at least once: the host may die between the end and the message's removal."""
    cluster, runner = await onboarding.cluster("aks-1"), onboarding.world.services.runner
    ended = await onboarding.onboard(cluster)
    await onboarding.offboard(cluster)
    message = OnboardingMessage(operation=ended.id)
    assert await runner.run(message) == ended
    await runner.give_up(message)
    assert await onboarding.world.services.onboarder.get_operation(ended.id) == ended
    assert await onboarding.fleet() == set()


async def test_a_retryable_failure_is_tried_again_after_a_while(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.world.cloud.arm_part.faults.add(Fault(method="PUT", times=1, headers={"Retry-After": "7"}))
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    between = await onboarding.deliver(begun.id)
    assert (between.status, step(between, "identity").category) == ("Running", "arm_unavailable")
    assert "Wait: it is retried" in (step(between, "identity").remedy or "")
    stored = await onboarding.read_stored(begun.id)
    assert stored.tries == 1
    assert seconds_to_next(stored) == pytest.approx(30, abs=1)

    asks = Fault(path="/serviceaccounts/", method="PATCH", times=3, headers={"Retry-After": "90"})
    cluster.part.faults.add(asks)
    between = await onboarding.deliver(begun.id)
    assert (between.status, step(between, "manifests").category) == ("Running", "cluster_unreachable")
    stored = await onboarding.read_stored(begun.id)
    assert stored.tries == 2
    assert seconds_to_next(stored) == pytest.approx(90, abs=1)

    cluster.part.faults.clear()
    ended = await onboarding.deliver(begun.id)
    assert ended.status == "Succeeded", describe(ended)
    assert {one.category for one in ended.steps} == {None}


async def test_a_failure_that_no_retry_can_help_ends_it_at_once(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.azure(cluster).power_state = "Stopped"
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    ended = await onboarding.deliver(begun.id)
    assert ended.status == "Failed"
    failed = step(ended, "inspect cluster")
    assert (failed.status, failed.category) == ("failed", "cluster_stopped")
    assert failed.remedy == (
        f"az aks start --subscription {SUBSCRIPTION} --resource-group {GROUP} --name aks-1. Then onboard again: "
        "POST /api/clusters with the same body. This operation is not tried again."
    )
    assert {one.status for one in ended.steps[1:]} == {"pending"}
    assert onboarding.world.cloud.arm.writes == []
    onboarding.azure(cluster).power_state = "Running"
    await onboarding.onboard(cluster)


async def test_after_its_last_try_it_has_failed_with_the_category_of_its_step(
    onboarding: Onboarding, caplog: pytest.LogCaptureFixture
) -> None:
    cluster, arm = await onboarding.cluster("aks-1"), onboarding.world.cloud.arm_part
    arm.faults.add(Fault())
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    assert ended.status == "Failed"
    failed = step(ended, "inspect cluster")
    assert failed.category == "arm_unavailable"
    assert "Wait: it is retried" not in (failed.remedy or "")
    assert "onboard again: POST /api/clusters with the same body" in (failed.remedy or "")
    assert len(arm.journal.requests) == 5
    [event] = onboarding.world.events.named("operation.completed")
    assert event == {
        "event": "operation.completed",
        "operation": ended.id,
        "kind": "onboard",
        "cluster": str(cluster.id),
        "status": "Failed",
        "seconds": pytest.approx((ended.updated_at - ended.created_at).total_seconds(), abs=1),
        "category": "arm_unavailable",
        "remedy": onboarding.world.services.documentation.page("arm_unavailable"),
    }
    assert [one.levelname for one in caplog.records if "operation.completed" in one.getMessage()] == ["ERROR"]


@pytest.mark.parametrize("by", ["the timer", "the poison queue"])
async def test_a_step_in_which_the_process_always_ends_fails_with_that_reason(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    cluster, runner = await onboarding.cluster("aks-1"), onboarding.world.services.runner
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    kill_in(ONBOARD[1], "do", monkeypatch, done=False)
    for _ in range(5 if by == "the timer" else 1):
        with pytest.raises(Killed):
            await onboarding.deliver(begun.id)
        onboarding.world.clock.advance(TICK)
        await onboarding.world.services.messages.resume_stalled()
    if by == "the poison queue":
        await runner.give_up(OnboardingMessage(operation=begun.id, turn=1))
    ended = await onboarding.world.services.onboarder.get_operation(begun.id)
    failed = step(ended, "identity")
    assert ended.status == "Failed"
    assert (failed.status, failed.category) == ("failed", "internal")
    assert failed.detail == "the app's process ended in this step at every try"


async def test_an_operation_that_never_got_to_a_step_fails_in_its_first(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    await onboarding.world.services.runner.give_up(OnboardingMessage(operation=begun.id))
    ended = await onboarding.world.services.onboarder.get_operation(begun.id)
    assert (ended.status, ended.steps[0].status, ended.steps[0].category) == ("Failed", "failed", "internal")
    page = onboarding.world.services.documentation.page("internal")
    assert [one.runbook for one in ended.steps] == [page, *[None] * 10]
