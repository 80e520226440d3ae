"""No invocation comes near `functionTimeout`: an operation waits, continues and tries again by messages to itself."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from aiohttp import web
from azure.storage.queue import TextBase64DecodePolicy
from azure.storage.queue.aio import QueueClient

from local.clock import Clock
from local.serving import Fault
from pullkeeper.deadline import INVOCATION, deadline
from pullkeeper.onboarding.documents import FINAL_STATUSES, OnboardingMessage, Operation
from pullkeeper.onboarding.messages import Messages
from pullkeeper.onboarding.phases import identity
from pullkeeper.onboarding.rows import StoredOperation
from pullkeeper.onboarding.work import Work
from tests.onboarding.conftest import (
    WORKLOAD,
    Onboarding,
    create_namespace,
    create_service_account,
    describe,
    federated,
    seconds_to_next,
    step,
)

pytestmark = pytest.mark.servers
SLOW_WRITE = timedelta(seconds=36)
"""As long as an API server with a slow etcd has been seen to take. It gives up a PATCH after 34 s to 60 s."""


@dataclass(slots=True)
class LoopTime:
    """The event loop's clock, which slow responses move forward instead of sleeping, with the world's."""

    clock: Clock
    passed: timedelta = timedelta()
    _real: Callable[[], float] = field(default_factory=lambda: asyncio.get_running_loop().time)

    def advance(self, time: timedelta) -> None:
        self.passed += time
        self.clock.advance(time)

    def now(self) -> float:
        return self._real() + self.passed.total_seconds()


@dataclass
class Slow(Fault):
    """A normal response, after a time."""

    loop: LoopTime | None = None
    takes: timedelta = SLOW_WRITE

    def matches(self, request: web.Request) -> bool:
        if self.loop and super().matches(request):
            self.loop.advance(self.takes)
        return False


@pytest.fixture
async def loop_time(onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch) -> LoopTime:
    time = LoopTime(onboarding.world.clock)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", time.now)
    return time


async def run_measured(onboarding: Onboarding, operation: str) -> tuple[Operation, list[timedelta]]:
    """Process an operation. Returns it, and how long each of its invocations took by the loop's clock."""
    loop, lengths = asyncio.get_running_loop(), []
    while (stored := await onboarding.read_stored(operation)).operation.status not in FINAL_STATUSES:
        started = loop.time()
        await onboarding.deliver(operation)
        lengths.append(timedelta(seconds=loop.time() - started))
        assert len(lengths) < 50, describe(stored.operation)
    return stored.operation, lengths


async def test_a_slow_api_server_ends_the_operation_with_its_category(
    onboarding: Onboarding, loop_time: LoopTime
) -> None:
    cluster = await onboarding.cluster("aks-1")
    cluster.part.faults.add(Slow(method="PATCH", loop=loop_time))
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})

    ended, lengths = await run_measured(onboarding, begun.id)

    [failed] = [one for one in ended.steps if one.status == "failed"]
    assert (ended.status, failed.category) == ("Failed", "cluster_unreachable"), describe(ended)
    assert "too slow" in (failed.detail or "")
    assert max(lengths) < INVOCATION
    assert (await onboarding.read_stored(begun.id)).tries == 4
    assert 8 <= len(lengths) <= 10, "five tries, and one more for each object that it creates: two fit into one"


async def test_a_dry_run_that_is_too_slow_uses_up_its_tries_too(onboarding: Onboarding, loop_time: LoopTime) -> None:
    """The next invocation finds nothing done: it would run for ever."""
    cluster = await onboarding.cluster("aks-1")
    cluster.part.faults.add(Slow(method="PATCH", loop=loop_time))
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main", "dryRun": True})
    between = await onboarding.deliver(begun.id)
    assert [one.category for one in between.steps if one.category] == ["cluster_unreachable"], describe(between)
    assert (await onboarding.read_stored(begun.id)).tries == 1


async def test_calls_that_all_use_up_their_time_do_not_make_an_invocation_longer(
    onboarding: Onboarding, loop_time: LoopTime
) -> None:
    cluster = await onboarding.cluster("aks-1")
    cluster.part.faults.add(Slow(loop=loop_time, takes=timedelta(seconds=39)))
    onboarding.world.cloud.arm_part.faults.add(Slow(loop=loop_time, takes=timedelta(seconds=29)))
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})

    ended, lengths = await run_measured(onboarding, begun.id)

    [failed] = [one for one in ended.steps if one.status == "failed"]
    assert (ended.status, failed.category) == ("Failed", "arm_unavailable"), describe(ended)
    assert "too slow" in (failed.detail or "")
    assert max(lengths) < INVOCATION


async def test_slow_work_that_gets_on_continues_in_further_invocations_without_using_up_tries(
    onboarding: Onboarding, loop_time: LoopTime
) -> None:
    """Twenty federated credentials, 12 s each: more than three invocations can write."""
    cluster = await onboarding.cluster("aks-1")
    faults = onboarding.world.cloud.arm_part.faults
    slow = Slow("/federatedIdentityCredentials/", "PUT", loop=loop_time, takes=timedelta(seconds=12))
    faults.add(slow)
    accounts = federated(*(f"account-{number}" for number in range(20)))
    body = {"cluster": str(cluster.id), "hub": "main", "targets": [{"serviceAccounts": accounts}]}
    begun = await onboarding.begin(body)

    ended, lengths = await run_measured(onboarding, begun.id)

    assert ended.status == "Succeeded", describe(ended)
    assert max(lengths) < INVOCATION
    assert len(lengths) > 3
    assert (await onboarding.read_stored(begun.id)).tries == 0
    assert len(onboarding.credentials()) == 20


async def test_what_azure_creates_and_removes_slowly_is_progress_too(
    onboarding: Onboarding, loop_time: LoopTime
) -> None:
    """An invocation has the time to find an identity and to write once. In between the cluster is created again."""
    cluster = await onboarding.cluster("aks-1")
    slow = Slow("/userAssignedIdentities/", loop=loop_time, takes=timedelta(seconds=16))
    onboarding.world.cloud.arm_part.faults.add(slow)
    for issuer in ("https://oidc.example/a/", "https://oidc.example/b/", None):
        if issuer:
            onboarding.azure(cluster).oidc_issuer = issuer
            targets = [{"serviceAccounts": federated("one", "two")}]
            begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main", "targets": targets})
        else:
            begun = await onboarding.world.services.onboarder.offboard(cluster.id, keep_workload=False)
        ended, lengths = await run_measured(onboarding, begun.id)
        assert ended.status == "Succeeded", describe(ended)
        assert len(lengths) > 1
        assert (await onboarding.read_stored(begun.id)).tries == 0


async def test_what_is_adopted_slowly_is_progress_too(onboarding: Onboarding, loop_time: LoopTime) -> None:
    cluster = await onboarding.cluster("aks-1")
    await create_namespace(cluster)
    await create_service_account(cluster, metadata={"annotations": {"azure.workload.identity/client-id": "theirs"}})
    body = {"cluster": str(cluster.id), "hub": "main"}
    assert step(await onboarding.run(body), "manifests").category == "object_conflict"
    slow = Slow("/serviceaccounts/", "PATCH", loop=loop_time, takes=timedelta(seconds=35))
    cluster.part.faults.add(slow)
    begun = await onboarding.begin({**body, "adopt": True})
    await onboarding.deliver(begun.id)
    assert (await onboarding.read_stored(begun.id)).tries == 0


@pytest.mark.parametrize("refresher", ["in-cluster", "central"])
async def test_what_is_removed_slowly_is_progress_too(
    onboarding: Onboarding, loop_time: LoopTime, refresher: str
) -> None:
    """Two of a refresher's objects fit into one invocation, or a secret and what names it."""
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster, refresher=refresher)
    for slow in (Slow(method="DELETE", loop=loop_time), Slow("/serviceaccounts/", "PATCH", loop=loop_time)):
        cluster.part.faults.add(slow)
    begun = await onboarding.world.services.onboarder.offboard(cluster.id, keep_workload=False)
    ended, lengths = await run_measured(onboarding, begun.id)
    assert ended.status == "Succeeded", describe(ended)
    assert (await onboarding.read_stored(ended.id)).tries == 0
    assert max(lengths) < 2.5 * SLOW_WRITE


async def test_what_is_given_back_slowly_is_progress_too(onboarding: Onboarding, loop_time: LoopTime) -> None:
    """An invocation has the time to look at a Service of another owner, and to remove our fields."""
    cluster = await onboarding.cluster("aks-1")
    await create_namespace(cluster)
    theirs = {"metadata": {"name": "deepintshield"}, "spec": {"ports": [{"port": 80, "targetPort": 8080}]}}
    await cluster.admin.call("POST", "/api/v1/namespaces/deepintshield/services", theirs)
    await onboarding.onboard(cluster, adopt=True, workload=WORKLOAD)
    cluster.part.faults.add(Slow("/services/", loop=loop_time))
    begun = await onboarding.world.services.onboarder.offboard(cluster.id, keep_workload=False)
    await onboarding.deliver(begun.id)
    assert (await onboarding.read_stored(begun.id)).tries == 0


async def test_the_timer_leaves_operations_to_its_next_run_once_its_time_is_up(
    onboarding: Onboarding, loop_time: LoopTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves half a minute for what the timer does next."""
    sent = []

    async def send_slowly(_: Messages, stored: StoredOperation) -> None:
        sent.append(stored.operation.id)
        loop_time.advance(INVOCATION - timedelta(seconds=25))

    for number in range(2):
        cluster = await onboarding.cluster(f"aks-{number}")
        begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
        stored = await onboarding.read_stored(begun.id)
        await onboarding.world.services.runner._operations.save(replace(stored, due=None))
    loop_time.advance(timedelta(minutes=4))
    monkeypatch.setattr(Messages, "send", send_slowly)
    with deadline():
        await onboarding.world.services.messages.resume_stalled()
    assert len(sent) == 1


async def test_an_operation_waits_for_azure_by_a_delayed_message_that_uses_no_try(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    azure = onboarding.azure(cluster)
    azure.oidc_issuer, azure.workload_identity = None, False
    onboarding.world.cloud.arm.clusters.updating = timedelta(minutes=20)
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main", "enableWorkloadIdentity": True})

    waiting = await onboarding.deliver(begun.id)

    stored = await onboarding.read_stored(begun.id)
    assert stored.due is not None
    assert 14 < seconds_to_next(stored) < 24
    running = step(waiting, "inspect cluster")
    assert (waiting.status, running.status) == ("Running", "running")
    assert stored.waiting_since is not None
    latest = stored.waiting_since + timedelta(days=1)
    assert f"next try at {stored.due:%H:%M:%SZ}, until {latest:%Y-%m-%d %H:%MZ} at most" in (running.detail or "")

    ended, lengths = await run_measured(onboarding, begun.id)
    assert ended.status == "Succeeded", describe(ended)
    assert 8 < len(lengths) < 20
    assert (await onboarding.read_stored(begun.id)).tries == 0
    assert len(onboarding.world.cloud.arm_part.journal.requests) < 200


async def test_a_message_that_the_operation_no_longer_waits_for_finds_nothing_to_do(onboarding: Onboarding) -> None:
    """It comes a second time, or ten minutes late after a crash."""
    cluster = await onboarding.cluster("aks-1")
    onboarding.azure(cluster).provisioning_state = "Upgrading"
    onboarding.azure(cluster).oidc_issuer = None
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main", "enableWorkloadIdentity": True})
    await onboarding.deliver(begun.id)
    before, calls = await onboarding.read_stored(begun.id), len(onboarding.world.cloud.arm_part.journal.requests)
    await onboarding.world.services.runner.run(OnboardingMessage(operation=begun.id))
    after = await onboarding.read_stored(begun.id)
    assert (after.operation, after.turn, after.due) == (before.operation, before.turn, before.due)
    assert len(onboarding.world.cloud.arm_part.journal.requests) == calls


async def test_a_wait_for_azure_has_an_end(onboarding: Onboarding) -> None:
    onboarding.world.settings["ONBOARDING_WAIT_HOURS"] = "1"
    cluster = await onboarding.cluster("aks-1")
    azure = onboarding.azure(cluster)
    azure.oidc_issuer, azure.provisioning_state = None, "Upgrading"

    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "enableWorkloadIdentity": True})

    failed = step(ended, "inspect cluster")
    assert (ended.status, failed.category) == ("Failed", "cluster_changing")
    assert "Upgrading" in (failed.detail or "")
    assert "az aks wait --updated --subscription " in (failed.remedy or "")
    assert onboarding.world.cloud.arm_part.journal.count("PUT") == 0


async def test_a_delayed_message_is_on_the_queue_and_stays_hidden(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.azure(cluster).provisioning_state = "Upgrading"
    onboarding.azure(cluster).oidc_issuer = None
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main", "enableWorkloadIdentity": True})
    async with QueueClient.from_connection_string(onboarding.world.storage, "onboarding") as queue:
        await queue.clear_messages()
        await onboarding.deliver(begun.id)
        assert (await queue.get_queue_properties()).approximate_message_count == 1
        assert await queue.receive_message() is None


async def test_an_overdue_message_is_sent_at_once(onboarding: Onboarding) -> None:
    """Storage that is slow lets time pass between the operation's row and its message."""
    cluster = await onboarding.cluster("aks-1")
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    stored = await onboarding.read_stored(begun.id)
    onboarding.world.clock.advance(timedelta(seconds=5))
    async with QueueClient.from_connection_string(
        onboarding.world.storage, "onboarding", message_decode_policy=TextBase64DecodePolicy()
    ) as queue:
        await queue.clear_messages()
        await onboarding.world.services.messages.send(replace(stored, turn=2))
        sent = await queue.receive_message()
    assert sent
    assert OnboardingMessage.parse(sent.content) == OnboardingMessage(operation=begun.id, turn=2)


async def test_a_phase_that_does_not_look_at_the_clock_is_interrupted(
    onboarding: Onboarding, loop_time: LoopTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = []

    async def linger(work: Work) -> str:
        loop_time.advance(INVOCATION)
        await asyncio.sleep(1)
        finished.append(work)
        return ""

    monkeypatch.setattr(identity, "do", linger)
    cluster = await onboarding.cluster("aks-1")
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    between = await onboarding.deliver(begun.id)
    assert (finished, step(between, "identity").category) == ([], "arm_unavailable")


async def test_a_bug_in_a_phase_ends_the_operation_with_its_own_words_and_type(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with the exception's text, which may quote anything."""

    async def fails(work: Work) -> str:
        raise ZeroDivisionError(f"secret of {work.cluster}")

    monkeypatch.setattr(identity, "do", fails)
    cluster = await onboarding.cluster("aks-1")
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    with pytest.raises(ZeroDivisionError):
        await onboarding.deliver(begun.id)
    ended = await onboarding.world.services.onboarder.get_operation(begun.id)
    failed = step(ended, "identity")
    assert (ended.status, failed.status, failed.category) == ("Failed", "failed", "internal")
    assert failed.detail == "unexpected ZeroDivisionError: a bug; the log has its traceback"
    assert "secret of" not in json.dumps(ended.to_json())
