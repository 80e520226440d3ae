"""Onboarding of a cluster with many targets: few words, few connections, and one refusal that hides no other target."""

import asyncio
import json
from typing import Final

import pytest

from local.cloud import LocalCluster
from local.kubernetes import recordings
from pullkeeper.errors import (
    AdmissionDenied,
    ClusterRbacDenied,
    ClusterUnreachable,
    InvalidRequest,
    NamespaceMissing,
    NamespaceTerminating,
    ObjectConflict,
    ObjectImmutable,
    PullkeeperError,
    QuotaExceeded,
    SecretConflict,
    SecretImmutable,
)
from pullkeeper.onboarding.documents import Operation
from pullkeeper.onboarding.many import run_all, shorten, summarize
from tests.onboarding.conftest import Onboarding, list_objects, step

pytestmark = pytest.mark.servers
_TEAMS: Final = [{"namespace": f"team-{number:02}", "serviceAccounts": ["app"]} for number in range(24)]


def _longest_detail(operation: Operation) -> int:
    return max(len(step.detail or "") for step in operation.steps)


async def _count(cluster: LocalCluster, kind: str) -> int:
    return sum(f"/{kind}/team-" in path for path in await list_objects(cluster))


async def test_a_step_names_a_few_of_many_objects_and_counts_the_others(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    planned = await onboarding.onboard(cluster, targets=_TEAMS, dryRun=True)
    done = await onboarding.onboard(cluster, targets=_TEAMS)
    assert step(done, "pull secret").detail == "24 secrets written and verified"
    assert await _count(cluster, "secrets") == 24
    offboarded = await onboarding.offboard(cluster)
    assert await _count(cluster, "secrets") == 0
    for operation, name, last in (
        (planned, "pull secret", "and 4 more"),
        (done, "refresher", "and 30 more"),
        (offboarded, "pull secret", "and 4 more"),
    ):
        assert str(step(operation, name).detail).endswith(last)
        assert _longest_detail(operation) < 2000


async def test_a_namespace_that_refuses_keeps_no_other_from_its_secret(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    cluster.part.faults.add(recordings.fault("quota", method="PATCH", path="/namespaces/team-03/secrets/"))
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "targets": _TEAMS})
    assert (ended.status, step(ended, "pull secret").category) == ("Failed", "quota_exceeded")
    assert await _count(cluster, "secrets") == 23


@pytest.mark.parametrize(
    "refusal",
    [
        AdmissionDenied,
        ClusterRbacDenied,
        NamespaceMissing,
        NamespaceTerminating,
        ObjectConflict,
        ObjectImmutable,
        QuotaExceeded,
        SecretConflict,
        SecretImmutable,
    ],
)
async def test_a_refused_object_keeps_no_other_from_being_done(refusal: type[PullkeeperError]) -> None:
    """A few are done at once."""
    done, most = [], 0
    begun: set[int] = set()

    async def do(number: int) -> None:
        nonlocal most
        begun.add(number)
        await asyncio.sleep(0)
        most = max(most, len(begun))
        begun.remove(number)
        done.append(number)
        if number == 1:
            raise refusal("no")

    with pytest.raises(refusal):
        await run_all(range(9), do)
    assert (done, most) == ([*range(9)], 4)


async def test_a_failure_of_the_whole_cluster_ends_the_step_and_is_the_one_that_is_reported() -> None:
    """It is tried again, while the refusal before it would end the operation."""
    done = []

    async def do(number: int) -> None:
        done.append(number)
        if number == 1:
            raise ObjectConflict("no")
        if number == 2:
            raise ClusterUnreachable("no response")

    with pytest.raises(ClusterUnreachable):
        await run_all(range(9), do)
    assert done == [0, 1, 2]


async def test_the_largest_request_is_stored_and_read_back_and_its_result_is_shortened(onboarding: Onboarding) -> None:
    accounts = [letter * 63 for letter in "ab"]
    longest = [{"namespace": f"{n:03}{'n' * 60}", "serviceAccounts": accounts} for n in range(500)]
    cluster = await onboarding.cluster("aks-1")
    body = {"cluster": str(cluster.id), "hub": "main", "targets": longest}
    begun = await onboarding.begin(body)
    stored = await onboarding.read_stored(begun.id)
    assert len(stored.request) > 100_000
    assert [*json.loads(stored.request)["targets"]] == longest
    ((_, listed),) = await onboarding.world.services.onboarder._operations.list_onboardings(cluster.id)
    assert len(listed.targets) == 500

    onboarding.azure(cluster).power_state = "Stopped"
    await onboarding.process(begun.id)
    kept = await onboarding.offboard_fully(cluster)
    assert kept[-1].startswith("and ")
    assert sum(map(len, kept)) < 60_000


async def test_manifests_that_fit_into_no_result_are_refused(onboarding: Onboarding) -> None:
    """The cluster is unreachable: its owner would have to apply a job with its script for each target."""
    cluster = await onboarding.cluster("aks-1")
    await cluster.server.stop()
    body = {"cluster": str(cluster.id), "hub": "main", "refresher": "in-cluster", "targets": _TEAMS[:20]}
    ended = await onboarding.run(body)
    assert step(ended, "refresher").category == InvalidRequest.category
    assert "150000 is the limit. Name fewer targets" in str(step(ended, "refresher").detail)


def test_results_are_summarized_and_reasons_shortened() -> None:
    assert summarize(["a", "b"], most=2) == "a; b"
    assert summarize(["a", "b", "c"], most=2) == "a; b; and 1 more"
    lines = [f"{number}{'x' * 997}" for number in range(100, 200)]
    assert shorten(lines) == (*lines[:50], "and 50 more")
    assert shorten(lines[:50]) == tuple(lines[:50])
