"""What an operation costs: calls to each service, and the connections that it opens."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from azure.core.pipeline.transport import AioHttpTransport

from local.cloud import LocalCluster
from local.serving import Fault
from pullkeeper.onboarding.documents import OnboardingMessage
from tests.onboarding.conftest import MERGE, WORKLOAD, Onboarding, describe, step

pytestmark = pytest.mark.servers


@dataclass(slots=True)
class Meter:
    """Counts what the app does. storage: method and path of each call. connections: by the port of the server."""

    onboarding: Onboarding
    cluster: LocalCluster
    storage: list[str] = field(default_factory=list)
    connections: Counter[int] = field(default_factory=Counter)

    def read(self) -> dict[str, list[str]]:
        """Return the calls to each service since the last time."""
        cloud = self.onboarding.world.cloud
        seen = {"storage": [*self.storage]}
        parts = {
            "arm": cloud.arm_part,
            "kubernetes": self.cluster.part,
            "identity": cloud.identity_part,
            "google": cloud.google_part,
            "registry": cloud.registry_parts[0],
        }
        for name, part in parts.items():
            seen[name] = [f"{one.method} {one.path} {one.query.get('dryRun', '')}" for one in part.journal.requests]
            part.journal.requests.clear()
        self.storage.clear()
        self.connections.clear()
        return seen


def describe_calls(calls: dict[str, list[str]]) -> str:
    """List every call, for the message of a failed assertion."""
    return "\n".join(f"{service} {len(made)}\n  " + "\n  ".join(made) for service, made in calls.items())


@pytest.fixture
async def meter(onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch) -> Meter:
    meter = Meter(onboarding, await onboarding.cluster("aks-1"))
    send, loop = AioHttpTransport.send, asyncio.get_running_loop()
    connect = type(loop).create_connection

    async def counted_send(self: AioHttpTransport, request: Any, **named: Any) -> Any:
        host, path = urlsplit(request.url).netloc, urlsplit(request.url).path
        if host in onboarding.world.storage:
            meter.storage.append(f"{request.method} {path.partition('/')[2]}")
        return await send(self, request, **named)

    async def counted_connect(self: Any, *positional: Any, **named: Any) -> Any:
        transport, protocol = await connect(self, *positional, **named)
        meter.connections[transport.get_extra_info("peername")[1]] += 1
        return transport, protocol

    monkeypatch.setattr(AioHttpTransport, "send", counted_send)
    monkeypatch.setattr(type(loop), "create_connection", counted_connect)
    return meter


async def test_an_operation_makes_few_calls_over_few_connections(onboarding: Onboarding, meter: Meter) -> None:
    """Each after the first of its kind, which creates tables and gets tokens."""
    other = await onboarding.cluster("aks-2")
    await onboarding.onboard(other)
    await onboarding.offboard_fully(other)
    for kind, most in (("first", 55), ("again", 40), ("offboarding", 55)):
        meter.read()
        if kind == "offboarding":
            begun = await onboarding.world.services.onboarder.offboard(meter.cluster.id, keep_workload=False)
        else:
            begun = await onboarding.begin({"cluster": str(meter.cluster.id), "hub": "main"})
        ended = await onboarding.world.services.runner.run(OnboardingMessage(operation=begun.id))
        assert ended.status == "Succeeded", describe(ended)
        connections = dict(meter.connections)
        calls = meter.read()
        assert sum(map(len, calls.values())) <= most, f"{kind}\n{describe_calls(calls)}"
        assert max(connections.values(), default=0) <= 4, f"{kind} {connections}\n{describe_calls(calls)}"


async def test_a_client_certificate_is_asked_for_once(onboarding: Onboarding) -> None:
    await _assert_certificate_requests(onboarding, 1)


async def test_two_identities_ask_for_a_client_certificate_each(two_identities: Onboarding) -> None:
    await _assert_certificate_requests(two_identities, 2)


async def _assert_certificate_requests(onboarding: Onboarding, count: int) -> None:
    await onboarding.onboard(await onboarding.cluster("aks-1", local_accounts=True))
    journal = onboarding.world.cloud.arm_part.journal
    assert journal.count("POST", "/listClusterUserCredential") == count
    assert journal.count("GET", "/managedClusters/") == count


@pytest.mark.parametrize("local_accounts", [False, True])
async def test_a_wait_does_not_repeat_the_calls_for_the_clusters_address(
    onboarding: Onboarding, *, local_accounts: bool
) -> None:
    """The client certificate of a cluster with local accounts is in no row: another process asks for it again."""
    cluster = await onboarding.cluster("aks-1", local_accounts=local_accounts)
    cluster.part.faults.add(Fault(path="/serviceaccounts/", method="PATCH", status=429, times=3))
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    waiting = await onboarding.deliver(begun.id)
    assert "waiting: " in (step(waiting, "manifests").detail or ""), describe(waiting)
    if local_accounts:
        await onboarding.restart()
    journal = onboarding.world.cloud.arm_part.journal
    journal.requests.clear()
    ended = await onboarding.process(begun.id)
    assert ended.status == "Succeeded", describe(ended)
    assert bool(journal.count(path="/managedClusters/")) == local_accounts
    assert "BEGIN" not in str((await onboarding.read_stored(begun.id)).to_entity()).replace("BEGIN CERTIFICATE", "")


async def test_after_a_failed_try_the_cluster_is_read_again(onboarding: Onboarding) -> None:
    """It may have moved since the wait for which its address was kept."""
    cluster = await onboarding.cluster("aks-1")
    cluster.part.faults.add(Fault(path="/serviceaccounts/", method="PATCH", status=429, times=3))
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    await onboarding.deliver(begun.id)
    kept = await onboarding.read_stored(begun.id)
    assert kept.facts
    assert kept.endpoint
    await cluster.server.stop()
    failed = await onboarding.deliver(begun.id)
    assert step(failed, "cluster access").category == "cluster_unreachable"
    forgotten = await onboarding.read_stored(begun.id)
    assert (forgotten.facts, forgotten.endpoint) == (None, None)


async def test_what_is_as_asked_is_written_only_once(onboarding: Onboarding) -> None:
    """And an edit of it is put right, whether it changes a value or adds one that a later request does not ask for."""
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster, workload=WORKLOAD)
    path = "/apis/apps/v1/namespaces/deepintshield/deployments/deepintshield"
    cluster.part.journal.requests.clear()
    await onboarding.onboard(cluster, workload=WORKLOAD)
    assert cluster.part.journal.count("PATCH", "/(roles|rolebindings|configmaps|deployments|services)/") == 0
    await cluster.admin.call("PATCH", path, {"spec": {"replicas": 7}}, content_type=MERGE)
    await onboarding.onboard(cluster, workload={**WORKLOAD, "image": "europe-docker.pkg.dev/p/r/app:2"})
    found = await cluster.admin.call("GET", path)
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "europe-docker.pkg.dev/p/r/app:2"
