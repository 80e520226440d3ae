"""Promise 9: whatever breaks, the diagnosis names that hop and blames no other."""

import re
from collections.abc import AsyncIterator
from typing import get_args

import pytest
import pytest_asyncio

from local.azure.entra import Entra
from local.azurite import Azurite
from local.cloud import LocalCluster
from local.hops import HOPS, break_hop, find_break
from local.serving import Authority
from pullkeeper.diagnosis.report import HopName
from tests.diagnosis.conftest import Doctor, build_doctor, format_hops
from tests.world import open_world

pytestmark = pytest.mark.servers
WAYS = [(hop, variant) for hop, ways in HOPS.items() for variant in ways]
WARNINGS = {("registry-permission", "second-registry"), ("probe-image", "deleted"), ("secret", "edited")}
"""What harms no refresh, or is repaired by the next one."""
_BLANK = re.compile("<(?:cluster|subscription|group|name|identity|namespace|secret|object|principal|account|pod)>")
"""In a remedy: a name that the diagnosis knows and has not given."""


async def test_all_hops_of_a_healthy_cluster_are_ok(doctor: Doctor) -> None:
    diagnosis = await doctor.examine(await doctor.onboard())
    assert (diagnosis.state, {hop.state for hop in diagnosis.hops}) == ("ok", {"ok"}), format_hops(diagnosis)
    assert tuple(hop.name for hop in diagnosis.hops) == get_args(HopName)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def onboarded(
    azurite: Azurite, authority: Authority, entra: Entra
) -> AsyncIterator[tuple[Doctor, dict[str, LocalCluster]]]:
    """A cluster of each hub, by the hub's name. Every test leaves them repaired."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        async with open_world(azurite.account(__name__), authority, monkeypatch, entra) as world:
            doctor = build_doctor(world)
            clusters = {hub: await doctor.onboard(f"aks-{hub}", hub) for hub in ("main", "two")}
            for cluster in clusters.values():
                healthy = await doctor.examine(cluster)  # fills all caches
                assert healthy.state == "ok", format_hops(healthy)
            yield doctor, clusters


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("hop", "variant"), WAYS)
async def test_the_broken_hop_is_named_and_no_other_is_blamed(
    onboarded: tuple[Doctor, dict[str, LocalCluster]], hop: HopName, variant: str
) -> None:
    """All others are ok, or skipped because of it. After the repair all is well."""
    doctor, clusters = onboarded
    cluster = clusters["two" if variant == "second-registry" else "main"]
    async with break_hop(doctor.world.cloud, cluster, hop, variant):
        diagnosis = await doctor.examine(cluster)
        wrong = [one for one in diagnosis.hops if one.state in {"failed", "warning"}]
        others = [one for one in diagnosis.hops if one.name != hop]
        is_warning = hop == "pods" or (hop, variant) in WARNINGS
        assert {(one.name, one.state) for one in wrong} == {(hop, "warning" if is_warning else "failed")}, format_hops(
            diagnosis
        )
        assert {one.because for one in others if one.state != "ok"} <= {hop}, format_hops(diagnosis)
        assert diagnosis.state == wrong[0].state
        assert [blank for one in wrong for blank in _BLANK.findall(str(one.remedy))] == [], "a name is missing"
        assert hop == "namespace" or find_break(hop, variant).category in {wrong[0].category, None}
    await doctor.world.refresh(cluster)
    repaired = await doctor.examine(cluster)
    assert repaired.state == "ok", format_hops(repaired)
