"""A cluster that was onboarded by an identity of its own, as recommended, and the diagnosis of it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
import stamina

from local.cloud import GROUP, SUBSCRIPTION, LocalCluster
from pullkeeper.diagnosis.diagnostics import Diagnostics
from pullkeeper.diagnosis.report import Diagnosis, Hop, HopName
from pullkeeper.diagnosis.tools import LIMIT
from tests.onboarding.conftest import Onboarding
from tests.world import World


@dataclass(frozen=True, slots=True)
class Doctor:
    """Diagnoses clusters as a new process of the app does."""

    world: World
    onboarding: Onboarding

    async def onboard(self, name: str = "aks-1", hub: str = "main", **wanted: object) -> LocalCluster:
        """Add a cluster and onboard it: its secret is fresh."""
        cluster = await self.onboarding.cluster(name, hub)
        await self.onboarding.onboard(cluster, hub=hub, **wanted)
        return cluster

    async def examine(self, cluster: LocalCluster, limit: timedelta = LIMIT) -> Diagnosis:
        diagnostics = self.world.services.diagnostics
        if limit != LIMIT:
            diagnostics = Diagnostics(replace(diagnostics._tools, limit=limit))
        return await diagnostics.examine_cluster(cluster.id)


def build_doctor(world: World) -> Doctor:
    world.cloud.add_hub("two", registries=2)
    world.cloud.add_onboarder()
    world.settings["ONBOARDING_SCOPES"] = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    return Doctor(world, Onboarding(world))


@pytest.fixture
def doctor(world: World) -> Doctor:
    return build_doctor(world)


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


def list_hops(diagnosis: Diagnosis, name: HopName) -> list[Hop]:
    return [hop for hop in diagnosis.hops if hop.name == name]


def find_hop(diagnosis: Diagnosis, name: HopName) -> Hop:
    (hop,) = list_hops(diagnosis, name)
    return hop


def format_hops(diagnosis: Diagnosis) -> str:
    return "\n".join(f"{hop.name} {hop.state} {hop.subject} {hop.because} {hop.detail}" for hop in diagnosis.hops)
