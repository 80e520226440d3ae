"""The address or CA of a cluster has changed: Azure is asked, at most once in ten minutes."""

import dataclasses
import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from local.azure.arm import CLUSTER_USER
from local.azure.managed_cluster import ManagedCluster
from local.cloud import LocalCluster
from local.serving import Fault
from pullkeeper.fleet.status import Search
from pullkeeper.fleet.table import Member
from pullkeeper.model import Endpoint, SelectorTarget, Target
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers
_UNAUTHORIZED = json.dumps(
    {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "Unauthorized",
        "reason": "Unauthorized",
        "code": 401,
    }
)
_NOWHERE = "https://does-not-resolve.invalid:443"
_WISH = SelectorTarget.parse({"namespaceSelector": {"matchLabels": {"pull": "yes"}}})


async def _register_at(world: World, cluster: LocalCluster, **changes: object) -> None:
    """Give the fleet another address or CA than Azure has."""
    endpoint = cluster.member.endpoint.model_copy(update=changes)
    await world.services.fleet.register(Member(cluster.member.cluster, endpoint))


def _reads_from_azure(world: World) -> int:
    return world.cloud.arm_part.journal.count("GET")


def _managed(world: World, cluster: LocalCluster) -> ManagedCluster:
    return world.cloud.arm.clusters.get(str(cluster.id))


async def _search(world: World, cluster: LocalCluster) -> Search:
    """Refresh a cluster, and return how the list of its namespaces went."""
    search = (await world.refresh(cluster)).search
    assert search
    return search


async def test_a_new_address_is_found_and_kept(world: World) -> None:
    cluster = await world.join("aks-1")
    await _register_at(world, cluster, server=_NOWHERE)
    for _ in range(3):
        status = await world.refresh(cluster)
        assert status.endpoint is not None
        assert cluster.server.url == status.endpoint.server
        world.clock.advance(25 * MINUTE)
    assert _reads_from_azure(world) == 1


async def test_a_new_ca_is_found_and_kept(world: World) -> None:
    cluster, other = await world.join("aks-1"), await world.join("aks-2")
    await _register_at(world, cluster, ca=other.server.ca_pem)
    for _ in range(3):
        await world.refresh(cluster)
        world.clock.advance(25 * MINUTE)
    assert _reads_from_azure(world) == 1


async def test_a_404_of_another_server_leads_to_azure(world: World) -> None:
    """Its body is no Status of Kubernetes."""
    cluster = await world.join("aks-1")
    await _register_at(world, cluster, server=world.cloud._google_server.url, ca=world.cloud.authority.pem)
    await world.refresh(cluster)
    assert _reads_from_azure(world) == 1


@pytest.mark.parametrize(
    "ca", ["", "no PEM", "no ASCII: é", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
async def test_an_invalid_ca_leads_to_azure(world: World, ca: str) -> None:
    """It never counts as no CA: then every public CA would be accepted. Here Azure has no other."""
    cluster = await world.join("aks-1")
    await _register_at(world, cluster, server=world.cloud._google_server.url, ca=ca)
    _managed(world, cluster).ca_pem = ca
    assert await world.refresh_category(cluster) == "cluster_tls_untrusted"
    assert "<" not in str((await world.target(cluster)).remedy), "a name is missing"
    assert _reads_from_azure(world) == 1
    assert world.cloud.google_part.journal.count("PATCH") == 0


async def test_a_certificate_of_another_ca_than_azures_is_never_trusted(world: World) -> None:
    """A proxy that opens TLS gets no token; Azure is asked once in ten minutes."""
    cluster, other = await world.join("aks-1"), await world.join("aks-2")
    await _register_at(world, cluster, ca=other.server.ca_pem)
    managed = _managed(world, cluster)
    managed.ca_pem = other.server.ca_pem
    reads = []
    for _ in range(5):
        assert await world.refresh_category(cluster) == "cluster_tls_untrusted"
        reads.append(_reads_from_azure(world))
        world.clock.advance(3 * MINUTE)
    assert reads == [1, 1, 1, 1, 2]
    assert cluster.part.journal.count("PATCH", "/secrets/") == 0
    assert f"--resource-group {cluster.id.resource_group} --name {cluster.id.name}" in str(
        (await world.target(cluster)).remedy
    )


@pytest.mark.parametrize("category", ["cluster_gone", "cluster_stopped"])
async def test_the_reason_comes_from_azure(world: World, category: str) -> None:
    cluster = await world.join("aks-1", targets=[Target(), _WISH])
    await world.join("neighbour")
    await _register_at(world, cluster, server=_NOWHERE)
    if category == "cluster_gone":
        world.cloud.arm.clusters.remove(str(cluster.id))
    else:
        _managed(world, cluster).power_state = "Stopped"
    assert await world.refresh_category(cluster) == category
    target = await world.target(cluster)
    assert f"--name {cluster.id.name}" in str(target.remedy)
    assert timedelta() < await world.next_due(cluster) - world.clock() <= 15 * MINUTE
    search = (await world.status(cluster)).search
    assert search
    assert (search.category, search.remedy) == (category, target.remedy)
    reads = _reads_from_azure(world)
    await world.refresh(cluster)
    assert _reads_from_azure(world) == reads


@pytest.mark.parametrize(
    "break_it",
    [
        lambda world: world.cloud.arm_part.faults.add(Fault(status=503)),
        lambda world: world.cloud.arm_part.faults.add(Fault(status=200, body="<html>")),
        lambda world: world.cloud.arm_part.faults.add(Fault(status=200, body="[]")),
        lambda world: world.cloud.arm_part.faults.add(Fault(drop=True)),
    ],
    ids=["503", "html", "list", "dropped"],
)
async def test_without_an_answer_of_azure_the_cluster_is_unreachable(
    world: World, break_it: Callable[[World], None]
) -> None:
    """Azure is not asked again for ten minutes."""
    cluster = await world.join("aks-1")
    await _register_at(world, cluster, server=_NOWHERE)
    break_it(world)
    assert await world.refresh_category(cluster) == "cluster_unreachable"
    reads = _reads_from_azure(world)
    assert await world.refresh_category(cluster) == "cluster_unreachable"
    assert reads == _reads_from_azure(world)
    world.cloud.arm_part.faults.clear()
    world.clock.advance(10 * MINUTE)
    assert await world.refresh_category(cluster) == "ok"


async def test_without_a_role_in_azure_the_cluster_is_unreachable(world: World) -> None:
    cluster = await world.join("aks-1")
    await _register_at(world, cluster, server=_NOWHERE)
    world.cloud.arm.unassign(world.cloud.app.principal_id, str(cluster.id), CLUSTER_USER)
    assert await world.refresh_category(cluster) == "cluster_unreachable"


async def test_a_client_certificate_is_fetched_once(world: World) -> None:
    cluster = await world.join("aks-1", local_accounts=True)
    for _ in range(3):
        await world.refresh(cluster)
        world.clock.advance(25 * MINUTE)
    assert world.cloud.arm_part.journal.count("POST", "listClusterUserCredential") == 1


async def test_a_rotated_client_certificate_is_fetched_again(world: World) -> None:
    cluster = await world.join("aks-1", local_accounts=True)
    await world.refresh(cluster)
    world.clock.advance(25 * MINUTE)
    cluster.part.faults.add(Fault(path="/secrets/", method="PATCH", status=401, body=_UNAUTHORIZED, times=1))
    managed = _managed(world, cluster)
    managed.client_certificate, managed.client_key = cluster.server.client_certificate(  # type: ignore[attr-defined]
        "masterclient", "system:masters"
    )
    await world.refresh(cluster)
    assert world.cloud.arm_part.journal.count("POST", "listClusterUserCredential") == 2


async def test_rotated_certificates_of_server_and_client_are_read_again(world: World) -> None:
    """`az aks rotate-certs` replaces the CA of the server and that of its clients."""
    cluster = await world.join("aks-1", local_accounts=True)
    await world.refresh(cluster)
    after = await world.cloud.add_cluster("after", "main", local_accounts=True)
    rotated = dataclasses.replace(_managed(world, after), resource_id=str(cluster.id))
    await cluster.server.stop()
    world.cloud.arm.clusters.add(rotated)
    await _register_at(world, cluster, server=after.server.url)
    world.clock.advance(25 * MINUTE)
    await world.refresh(cluster)
    assert (await world.read_token(after)).startswith("ya29.")


async def test_a_cluster_that_has_entra_now_is_refreshed_with_a_token(world: World) -> None:
    """The fleet still says local accounts; Azure returns no certificate any more."""
    cluster = await world.join("aks-1", local_accounts=True)
    managed = _managed(world, cluster)
    managed.client_certificate = managed.client_key = None
    await world.refresh(cluster)
    assert (await world.read_token(cluster)).startswith("ya29.")


async def test_a_client_certificate_that_azure_refuses_is_reported(world: World) -> None:
    cluster = await world.join("aks-1", local_accounts=True)
    world.cloud.arm.unassign(world.cloud.app.principal_id, str(cluster.id), CLUSTER_USER)
    assert await world.refresh_category(cluster) == "arm_denied"
    remedy = (await world.target(cluster)).remedy or ""
    assert f"--assignee-object-id {world.cloud.app.principal_id} " in remedy
    assert remedy.endswith(f"--scope {cluster.id}")
    world.cloud.arm_part.faults.add(Fault(status=429, headers={"Retry-After": "5"}))
    assert await world.refresh_category(cluster) == "arm_throttled"


async def test_azure_is_asked_seldom_for_a_cluster_that_is_only_searched(world: World) -> None:
    """In the same run its namespaces are listed at the address that Azure gives."""
    cluster = await world.join("aks-1", targets=[_WISH])
    await _register_at(world, cluster, server=_NOWHERE)
    _managed(world, cluster).server = _NOWHERE
    for _ in range(2):
        assert (await _search(world, cluster)).category == "cluster_unreachable"
    assert _reads_from_azure(world) == 1
    world.clock.advance(10 * MINUTE)
    world.cloud.arm_part.faults.add(Fault(status=503))
    await world.refresh(cluster)
    reads = _reads_from_azure(world)
    assert (await _search(world, cluster)).category == "cluster_unreachable"
    assert _reads_from_azure(world) == reads > 1
    world.cloud.arm_part.faults.clear()
    _managed(world, cluster).server = cluster.server.url
    world.clock.advance(10 * MINUTE)
    assert (await _search(world, cluster)).category is None
    assert _reads_from_azure(world) == reads + 1


async def test_the_newer_of_two_addresses_counts(world: World) -> None:
    """The cluster is onboarded again after a refresh has found an address, where it no longer is."""
    cluster = await world.join("aks-1")
    await _register_at(world, cluster, server=_NOWHERE)
    _managed(world, cluster).server = _NOWHERE
    await world.refresh(cluster)
    world.clock.advance(MINUTE)
    again = Endpoint(server=cluster.server.url, ca=cluster.server.ca_pem, read_at=world.clock())
    await world.services.fleet.register(Member(cluster.member.cluster, again))
    assert await world.refresh_category(cluster) == "ok"
    assert _reads_from_azure(world) == 1
