"""Throttled means waiting: an operation comes back later, uses no try, and keeps no place while it waits."""

import asyncio
import re
from collections.abc import Mapping
from datetime import datetime, timedelta

import pytest
from azure.storage.queue.aio import QueueClient

from local.azure.routing import RateLimit
from local.serving import Fault
from pullkeeper.fleet.queues import Queue
from pullkeeper.onboarding.documents import FINAL_STATUSES, OnboardingMessage, Operation
from pullkeeper.onboarding.phases import identity
from pullkeeper.onboarding.work import Work
from tests.onboarding.conftest import Onboarding, describe, seconds_to_next, step
from tests.onboarding.test_resume import Killed, kill_in

pytestmark = pytest.mark.servers
TOO_MANY = '{"error":{"code":"TooManyRequests","message":"The request is being throttled."}}'
CONCURRENT = (
    '{"error":{"code":"ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity","message":"Too many"}}'
)
LOCKED = '{"error":{"code":"ScopeLocked","message":"The scope \'x\' cannot perform write operation."}}'
CALLS: Mapping[str, tuple[str, str, str]] = {
    "get the cluster": ("arm", "GET", r"/managedClusters/aks-1$"),
    "put the cluster": ("arm", "PUT", r"/managedClusters/aks-1$"),
    "list credentials": ("arm", "POST", "/listClusterUserCredential"),
    "create an identity": ("arm", "PUT", r"/userAssignedIdentities/[^/]+$"),
    "add a federated credential": ("arm", "PUT", "/federatedIdentityCredentials/"),
    "apply an object": ("kubernetes", "PATCH", "/serviceaccounts/"),
    "get a token of Entra": ("entra", "GET", "/msi/token"),
    "exchange it at Google": ("google", "POST", "/v1/token"),
}
"""Server, method and path of each kind of call."""
RETRY_AFTER = {"Retry-After": "90"}


@pytest.fixture(autouse=True)
async def _one_clock(onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock of the event loop follow the world's: what is kept in a process is kept by that."""
    clock = onboarding.world.clock
    monkeypatch.setattr("pullkeeper.azure.entra._KEEP", 0.0)
    loop = asyncio.get_running_loop()
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + clock._ahead.total_seconds())


def throttle(onboarding: Onboarding, call: str, **fault: object) -> Fault:
    """Refuse the next 4 calls of a kind with 429: more than one wait, where a call is made up to three times."""
    server, method, path = CALLS[call]
    cloud = onboarding.world.cloud
    parts = {"arm": cloud.arm_part, "entra": cloud.identity_part, "google": cloud.google_part}
    part = parts[server] if server in parts else [*cloud.clusters.values()][-1].part
    added = Fault(path=path, method=method, **{"status": 429, "body": TOO_MANY, "times": 4, **fault})  # type: ignore[arg-type]
    part.faults.add(added)
    return added


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_that_is_throttled_is_made_again_until_it_succeeds_and_uses_no_try(
    onboarding: Onboarding, call: str
) -> None:
    """First with the time that the service asks for, then without one."""
    cluster = await onboarding.cluster("aks-1")
    if call == "put the cluster":
        onboarding.azure(cluster).workload_identity = False
    faults = [throttle(onboarding, call, times=1, headers=RETRY_AFTER), throttle(onboarding, call)]
    body = {"cluster": str(cluster.id), "hub": "main", "enableWorkloadIdentity": True}
    begun = await onboarding.begin(body)

    waiting = await onboarding.deliver(begun.id)

    stored = await onboarding.read_stored(begun.id)
    assert (waiting.status, stored.tries) == ("Running", 0), describe(waiting)
    running = next(one for one in waiting.steps if one.status == "running")
    assert (running.detail or "").startswith("waiting: "), describe(waiting)
    if call != "get a token of Entra":
        assert seconds_to_next(stored) >= 88
    assert (await onboarding.deliver(begun.id)).status == "Running"
    ended = await onboarding.process(begun.id)
    assert ended.status == "Succeeded", describe(ended)
    assert (await onboarding.read_stored(begun.id)).tries == 0
    assert {fault.times for fault in faults} == {0}


@pytest.mark.parametrize(
    ("call", "status", "body"),
    [
        ("add a federated credential", 409, CONCURRENT),
        ("add a federated credential", 409, TOO_MANY),
        (
            "put the cluster",
            409,
            '{"code":"OperationNotAllowed","message":"Another operation (Upgrading) is in progress"}',
        ),
    ],
)
async def test_a_change_under_way_is_waited_for(onboarding: Onboarding, call: str, status: int, body: str) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.azure(cluster).workload_identity = False
    throttle(onboarding, call, status=status, body=body)
    ended = await onboarding.onboard(cluster, enableWorkloadIdentity=True)
    assert (await onboarding.read_stored(ended.id)).tries == 0


async def test_offboarding_waits_too(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster)
    fault = Fault(path="/federatedIdentityCredentials/", method="DELETE", status=429, body=TOO_MANY, times=4)
    onboarding.world.cloud.arm_part.faults.add(fault)
    ended = await onboarding.offboard(cluster)
    assert ended.status == "Succeeded", describe(ended)
    assert ended.result is not None
    assert ended.result.complete
    assert fault.times == 0


async def test_a_locked_cluster_fails_at_once(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.azure(cluster).workload_identity = False
    throttle(onboarding, "put the cluster", status=409, body=LOCKED)
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main", "enableWorkloadIdentity": True})
    ended = await onboarding.deliver(begun.id)
    assert (ended.status, step(ended, "inspect cluster").category) == ("Failed", "scope_locked")


@pytest.mark.parametrize(("hours", "expected"), [(None, 24), ("2", 2)])
async def test_a_wait_has_an_end(onboarding: Onboarding, hours: str | None, expected: int) -> None:
    if hours:
        onboarding.world.settings["ONBOARDING_WAIT_HOURS"] = hours
    cluster = await onboarding.cluster("aks-1")
    throttle(onboarding, "get the cluster", times=None, headers={"Retry-After": str(1200 * expected - 100)})
    began = onboarding.world.clock()
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    failed = step(ended, "inspect cluster")
    assert (ended.status, failed.category) == ("Failed", "arm_throttled"), describe(ended)
    assert "This operation is not tried again" in (failed.remedy or "")
    longest = timedelta(hours=1.5)  # of two tries: an hour, which is the longest Retry-After, and half of it at random
    assert timedelta(hours=expected) - longest < onboarding.world.clock() - began <= timedelta(hours=expected)


async def deliver_all(onboarding: Onboarding, begun: list[Operation]) -> list[datetime]:
    """Deliver each message when it is due, those of the same second together. Returns when operations came back."""
    came_back: list[datetime] = []
    clock = onboarding.world.clock
    while True:
        stored = [await onboarding.read_stored(one.id) for one in begun]
        dues = sorted(one.due for one in stored if one.due and one.operation.status not in FINAL_STATUSES)
        if not dues:
            return came_back
        clock.advance(max(dues[0] - clock() + timedelta(seconds=1), timedelta()))
        ready = [one for one in stored if one.due and one.due <= clock()]
        came_back += [one.due for one in ready if one.due and one.turn]
        runner = onboarding.world.services.runner
        await asyncio.gather(
            *(runner.run(OnboardingMessage(operation=one.operation.id, turn=one.turn)) for one in ready)
        )


async def test_a_fleet_that_is_onboarded_at_once_comes_back_at_the_rate_of_the_quota(onboarding: Onboarding) -> None:
    """Sixteen clusters of one group; a burst of five credential calls, and one a second."""
    onboarding.world.cloud.arm.clusters.others = RateLimit(5, timedelta(seconds=1))
    clusters = [await onboarding.cluster(f"aks-{number}") for number in range(16)]
    bodies = [{"cluster": str(one.id), "hub": "main", "identity": f"pull-{one.id.name}"} for one in clusters]
    begun = [await onboarding.begin(body) for body in bodies]

    came_back = await deliver_all(onboarding, begun)

    stored = [await onboarding.read_stored(one.id) for one in begun]
    assert {one.operation.status for one in stored} == {"Succeeded"}
    assert {one.tries for one in stored} == {0}
    assert max(one.turn for one in stored) <= 3, "messages of an operation"
    seconds = [due.replace(microsecond=0) for due in came_back]
    assert max(map(seconds.count, seconds)) <= 3
    journal = onboarding.world.cloud.arm_part.journal
    refused = [one for one in journal.requests if one.method == "POST" and one.status == 429]
    assert len(refused) <= 8, "only those that were under way when the first was refused"


async def test_a_wait_for_one_quota_keeps_the_turn_at_another(onboarding: Onboarding) -> None:
    """Else the operation would go back to the end of that line."""
    cluster, arm = await onboarding.cluster("aks-1"), onboarding.world.cloud.arm
    throttle(onboarding, "list credentials")
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    await onboarding.deliver(begun.id)
    identity = onboarding.identity()
    assert identity is not None
    assert [arm.federated_credentials.remove(identity, name) for name in onboarding.credentials()]
    throttle(onboarding, "add a federated credential")
    await onboarding.deliver(begun.id)
    turns = sorted((await onboarding.read_stored(begun.id)).turns)
    assert [turn.partition(" of ")[0] for turn in turns] == ["credentials", "credentials"]
    onboarding.world.cloud.arm_part.faults.clear()
    throttle(onboarding, "apply an object")
    await onboarding.deliver(begun.id)
    assert (await onboarding.read_stored(begun.id)).turns == frozenset(), "both are used up"


@pytest.mark.parametrize(
    ("call", "every"), [("list credentials", 1), ("create an identity", 0.25), ("add a federated credential", 4)]
)
async def test_an_operation_waits_for_others_of_its_quota_without_a_call(
    onboarding: Onboarding, call: str, every: float
) -> None:
    """That of a subscription and region, or of an identity. One of another does not wait."""
    first, second, elsewhere = [await onboarding.cluster(f"aks-{number}") for number in range(3)]
    onboarding.azure(elsewhere).location = "northeurope"
    throttle(onboarding, call, times=1, headers=RETRY_AFTER)
    shared = {"hub": "main", "identity": "shop-pull"}
    came, times = onboarding.world.clock(), []
    for cluster in (first, second):
        begun = await onboarding.begin({"cluster": str(cluster.id), **shared})
        await onboarding.deliver(begun.id)
        due = (await onboarding.read_stored(begun.id)).due
        assert due
        times.append(due)
    assert came + timedelta(seconds=90) <= times[0]
    assert (times[1] - times[0]).total_seconds() == pytest.approx(every, abs=0.2)
    await onboarding.onboard(elsewhere)
    _, method, path = CALLS[call]
    called = [one for one in onboarding.world.cloud.arm_part.journal.requests if one.method == method]
    assert [one.status == 429 for one in called if re.search(path, one.path)] == [True, False]


async def test_waits_for_different_services_are_spread(onboarding: Onboarding) -> None:
    """Nothing orders these: a thousand clusters with one overloaded control plane each, after an outage."""
    waits = []
    for number in range(5):
        cluster = await onboarding.cluster(f"aks-{number}")
        throttle(onboarding, "apply an object")
        begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
        await onboarding.deliver(begun.id)
        waits.append(seconds_to_next(await onboarding.read_stored(begun.id)))
    assert max(waits) - min(waits) > 0.1
    assert all(15 <= wait <= 22.5 for wait in waits)

    onboarding.world.clock.advance(timedelta(hours=10))
    throttle(onboarding, "apply an object")
    await onboarding.deliver(begun.id)
    assert 300 <= seconds_to_next(await onboarding.read_stored(begun.id)) <= 450, "however long it has waited"


async def test_a_wait_of_seconds_keeps_no_place(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    throttle(onboarding, "apply an object", times=1, headers={"Retry-After": "3"})
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    assert (await onboarding.deliver(begun.id)).status == "Running"


async def test_no_more_operations_run_at_once_than_there_are_places(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait for their turn, first come, first served."""
    order, running, most, full = [], 0, 0, asyncio.Event()

    async def work_slowly(work: Work) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        order.append(work.cluster.name)
        if running == 8:
            full.set()
        await full.wait()
        await asyncio.sleep(0.2)
        running -= 1
        raise ZeroDivisionError

    monkeypatch.setattr(identity, "do", work_slowly)
    clusters = [await onboarding.cluster(f"aks-{number}") for number in range(10)]
    begun = [await onboarding.begin({"cluster": str(one.id), "hub": "main"}) for one in clusters]
    runner = onboarding.world.services.runner
    messages = [OnboardingMessage(operation=one.id) for one in begun]
    await asyncio.gather(*map(runner.run, messages), return_exceptions=True)
    assert (most, len(order)) == (8, 10)
    assert {*order[8:]} == {"aks-8", "aks-9"}


async def test_a_message_that_gets_no_place_goes_back_to_the_queue(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pullkeeper.onboarding.run._PLACES", 0)
    monkeypatch.setattr("pullkeeper.onboarding.run._PLACE_WITHIN", timedelta(seconds=0.05))
    cluster = await onboarding.cluster("aks-1")
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    async with QueueClient.from_connection_string(onboarding.world.storage, "onboarding") as queue:
        await queue.clear_messages()
        before = await onboarding.deliver(begun.id)
        assert before.status == "Queued"
        assert (await queue.get_queue_properties()).approximate_message_count == 1
        assert await queue.receive_message() is None, "it stays hidden for a while"
    stored = await onboarding.read_stored(begun.id)
    assert (stored.turn, stored.tries) == (0, 0)


async def count_messages(onboarding: Onboarding) -> int:
    return await onboarding.world.services.queues["onboarding"].depth()


async def test_operations_behind_others_on_the_queue_are_not_sent_again_and_a_lost_message_is(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, *queued = [await onboarding.cluster(f"aks-{number}") for number in range(4)]
    with monkeypatch.context() as patch:
        patch.setattr(Queue, "put", _lose)
        begun = await onboarding.begin({"cluster": str(lost.id), "hub": "main"})
    for cluster in queued:
        await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    throttle(onboarding, "get the cluster", headers={"Retry-After": "3000"})
    messages = onboarding.world.services.messages
    await messages.resume_stalled()
    assert await count_messages(onboarding) == 3

    onboarding.world.clock.advance(timedelta(minutes=10))
    for _ in range(3):
        await messages.resume_stalled()
        assert await count_messages(onboarding) == 4
        onboarding.world.clock.advance(timedelta(minutes=5))
    assert (await onboarding.read_stored(begun.id)).due == pytest.approx(
        onboarding.world.clock() - timedelta(minutes=15), abs=timedelta(seconds=30)
    )
    for _ in range(2):
        await messages.put(OnboardingMessage(operation="0" * 32), timedelta())
    await messages.resume_stalled()
    assert await count_messages(onboarding) == 6, "none is missing, and two are of no operation"


async def test_an_operation_that_waits_until_its_time_does_not_stand_still(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    throttle(onboarding, "list credentials", headers={"Retry-After": "3000"})
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    await onboarding.deliver(begun.id)
    before = await onboarding.read_stored(begun.id)
    for _ in range(5):
        onboarding.world.clock.advance(timedelta(minutes=5))
        await onboarding.world.services.messages.resume_stalled()
    after = await onboarding.read_stored(begun.id)
    assert (after.etag, after.due) == (before.etag, before.due)


async def test_a_wait_is_resumed_after_a_crash(onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = await onboarding.cluster("aks-1")
    throttle(onboarding, "list credentials", times=1)
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    await onboarding.deliver(begun.id)
    with monkeypatch.context() as patch:
        kill_in(identity, "do", patch, done=False)
        with pytest.raises(Killed):
            await onboarding.deliver(begun.id)
    ended = await onboarding.process(begun.id)
    assert ended.status == "Succeeded", describe(ended)


async def _lose(_: Queue, *__: object) -> None:
    """The message is never sent."""
