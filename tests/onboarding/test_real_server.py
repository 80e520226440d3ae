"""The same flow on a real API server: dry, for good, again, and back."""

from collections.abc import AsyncIterator

import pytest
import stamina

from local.apiserver import Etcd, Issuer, RealApiServer
from local.cloud import LocalCluster
from tests.apiserver import at_hand
from tests.onboarding.conftest import Onboarding, told, versions

pytestmark = [pytest.mark.servers, pytest.mark.real]


@pytest.fixture
async def cluster(onboarding: Onboarding) -> AsyncIterator[LocalCluster]:
    cloud = onboarding.world.cloud
    etcd = Etcd(at_hand.kubernetes())
    await etcd.start()
    issuer = Issuer(cloud.entra.issuer_v1, cloud.issuer_discovery, cloud.authority.pem)
    server = RealApiServer("real", etcd=etcd, issuer=issuer)
    with stamina.set_testing(False):
        yield await onboarding.cluster("aks-real", server=server)
    await etcd.stop()


async def test_planned_onboarded_onboarded_again_and_offboarded(onboarding: Onboarding, cluster: LocalCluster) -> None:
    body = {"cluster": str(cluster.id), "hub": "main", "workload": {"image": "europe-docker.pkg.dev/p/r/app:1"}}
    nothing = await versions(cluster)
    planned = await onboarding.run({**body, "dryRun": True})
    assert {one.status for one in planned.steps} == {"planned"}, told(planned)
    assert await versions(cluster) == nothing

    ended = await onboarding.run(body)
    assert ended.status == "Succeeded", told(ended)
    assert (await onboarding.world.token_in(cluster)).startswith("ya29.")
    there = await versions(cluster)

    planned = await onboarding.run({**body, "dryRun": True})
    assert {one.status for one in planned.steps} == {"planned"}, told(planned)
    assert await versions(cluster) == there
    again = await onboarding.run(body)
    assert again.status == "Succeeded", told(again)
    assert await versions(cluster) == there

    gone = await onboarding.offboard(cluster)
    assert gone.status == "Succeeded", told(gone)
    assert set(await versions(cluster)) - set(nothing) == {"/api/v1/namespaces//deepintshield"}
