"""A hop that does not respond has failed when the time is over, and all others report."""

import asyncio
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import Any

import pytest

from local.cloud import LocalCluster
from local.serving import Fault, Faults
from pullkeeper.diagnosis.report import HopName
from tests.diagnosis.conftest import Doctor, find_hop, format_hops

pytestmark = pytest.mark.servers
_SHORT = timedelta(seconds=9)


def _faults(doctor: Doctor, cluster: LocalCluster, part: str) -> Faults:
    cloud = doctor.world.cloud
    parts = {
        "identity": cloud.identity_part,
        "google": cloud.google_part,
        "registry": cloud.registry_parts[0],
        "azure": cloud.arm_part,
        "cluster": cluster.part,
    }
    return parts[part].faults


@pytest.mark.parametrize(
    ("part", "path", "hop"),
    [
        ("identity", "", "managed-identity"),
        ("google", "/v1/token$", "token-exchange"),
        ("google", ":generateAccessToken$", "impersonation"),
        ("registry", "/v2/", "registry-permission"),
        ("azure", "/managedClusters/", "cluster-state"),
        ("azure", "/userAssignedIdentities/", "federated-credential"),
        ("cluster", "", "api-server"),
        ("cluster", "/namespaces$", "namespace"),
        ("cluster", "/serviceaccounts/", "service-account"),
        ("cluster", "/configmaps/", "credential-config"),
        ("cluster", "/secrets/", "secret"),
        ("cluster", "/pods$", "pods"),
    ],
)
async def test_a_silent_hop_is_named_and_the_others_report(doctor: Doctor, part: str, path: str, hop: HopName) -> None:
    cluster = await doctor.onboard()
    _faults(doctor, cluster, part).add(Fault(path=path, hang=True))
    diagnosis = await doctor.examine(cluster, _SHORT)
    assert diagnosis.seconds < _SHORT.total_seconds() + 0.5
    wrong = [one for one in diagnosis.hops if one.state in {"failed", "warning"}]
    registry = doctor.world.cloud.hubs["main"].document["registries"][0]
    state, shows_image = ("warning", True) if part == "registry" else ("failed", False)
    subject = {"registry-permission": registry, "secret": str(cluster.target)}.get(hop)
    found = [(one.name, one.state, one.subject, "image" in one.evidence) for one in wrong]
    assert found == [(hop, state, subject, shows_image)], format_hops(diagnosis)
    assert {one.because for one in diagnosis.hops if one.state == "skipped"} <= {hop}, format_hops(diagnosis)


async def test_hops_that_do_not_depend_on_each_other_run_at_the_same_time(doctor: Doctor) -> None:
    cluster = await doctor.onboard()
    slow = Fault(delay=timedelta(seconds=0.4), slow_only=True)
    cloud = doctor.world.cloud
    for part in (cloud.google_part, cloud.arm_part, cluster.part):
        part.faults.add(slow)
    diagnosis = await doctor.examine(cluster)
    assert diagnosis.state == "ok", format_hops(diagnosis)
    calls = sum(len(part.journal.requests) for part in (cloud.google_part, cloud.arm_part, cluster.part))
    assert diagnosis.seconds < calls * 0.4 / 2


async def test_a_diagnosis_that_is_cancelled_ends_its_own_hops_and_no_others(doctor: Doctor) -> None:
    """They share the hops of the hub."""
    cluster, other = await doctor.onboard(), await doctor.onboard("aks-2")
    doctor.world.cloud.identity_part.faults.add(Fault(delay=timedelta(seconds=1), slow_only=True, times=1))
    second = asyncio.create_task(doctor.examine(other))
    await _wait_for_hops()
    first = asyncio.create_task(doctor.examine(cluster))
    own = await _wait_for_hops(_list_running())
    first.cancel()
    await asyncio.wait([first])
    assert all(task.done() for task in own)
    diagnosis = await second
    assert diagnosis.state == "ok", format_hops(diagnosis)
    assert find_hop(diagnosis, "impersonation").state == "ok"


def _list_running() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if "Course._run" in repr(task)}


async def _wait_for_hops(known: AbstractSet[asyncio.Task[Any]] = frozenset()) -> set[asyncio.Task[Any]]:
    """Wait until hops have started that are not known, and return them."""
    async with asyncio.timeout(20):
        while not _list_running() - known:  # noqa: ASYNC110 - tasks have no event for it
            await asyncio.sleep(0.01)
    return _list_running() - known
