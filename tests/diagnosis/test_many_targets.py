"""A cluster with 500 targets: what needs attention is shown in full, the others are counted, in time and in 1 MiB."""

import re
from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest

from local.kubernetes import recordings
from local.serving import Fault
from pullkeeper.diagnosis.diagnostics import Diagnostics
from pullkeeper.diagnosis.report import HopName
from pullkeeper.diagnosis.tools import LIMIT
from pullkeeper.model import Target
from pullkeeper.service_accounts import ServiceAccount
from tests.diagnosis.conftest import format_hops, list_hops
from tests.world import World

pytestmark = pytest.mark.servers
_TARGETS = tuple(
    Target(namespace=f"team-{number:03}", service_accounts=(ServiceAccount(name="default"),)) for number in range(500)
)
_OF_TARGETS: Final[tuple[HopName, ...]] = ("service-account", "credential-config", "secret", "pods")
_MOST: Final = 1024 * 1024


@pytest.mark.timeout(240)
async def test_500_targets_are_examined_in_time(world: World) -> None:
    """None of them has its secret or its service account, which makes the longest response."""
    cluster = await world.join("aks-1", targets=_TARGETS)
    cluster.part.faults.add(recordings.fault("webhook-denies", path="/team-00./secrets/"))
    diagnosis = await world.services.diagnostics.examine_cluster(cluster.id)
    assert diagnosis.seconds < LIMIT.total_seconds() + 1
    assert len(diagnosis.model_dump_json(by_alias=True)) < _MOST
    for name in _OF_TARGETS:
        *shown, last = list_hops(diagnosis, name)
        assert len(shown) == (20 if name in {"service-account", "secret"} else 0), format_hops(diagnosis)
        assert "500 " in last.detail
        assert last.subject is None
    denied = [hop for hop in list_hops(diagnosis, "secret") if hop.category == "admission_denied"]
    assert len(denied) == 10
    assert "Exempt secret/ar-pull-secret in namespace team-00" in str(denied[0].remedy)


async def test_what_there_was_no_time_for_is_counted(world: World) -> None:
    """A slow server. Those that need attention were looked at first."""
    cluster = await world.join("aks-1", targets=_TARGETS[:40])
    await world.refresh(cluster)
    first = _TARGETS[39]
    await cluster.admin.delete_secret(first.namespace, first.secret)
    fault = recordings.fault("quota", path=f"/{first.namespace}/secrets/")
    with cluster.part.faults.inject(fault):
        await world.refresh(cluster)
    cluster.part.faults.add(Fault(delay=timedelta(seconds=0.15), slow_only=True))
    tools = replace(world.services.diagnostics._tools, limit=timedelta(seconds=6))
    diagnosis = await Diagnostics(tools).examine_cluster(cluster.id)
    assert diagnosis.seconds < 6.5
    *shown, last = list_hops(diagnosis, "secret")
    assert (shown[0].subject, shown[0].state) == (str(first), "failed"), format_hops(diagnosis)
    cut_off = [hop for hop in diagnosis.hops if hop.category == "cluster_unreachable"]
    assert not cut_off, "calls that the end of the diagnosis has cut off say nothing of the server"
    assert re.fullmatch(r"others of the 40 secrets: (\d+ ok, )?\d+ not looked at for lack of time", last.detail)
    others: tuple[HopName, ...] = ("permission", "service-account", "credential-config", "pods")
    unseen = {name: list_hops(diagnosis, name)[-1].detail for name in others}
    assert {name for name, detail in unseen.items() if "not looked at for lack of time" in detail} == {*others}, unseen
