"""What Azure says of a cluster, and which of its identities is the one that counts."""

import pytest

from local.azure.assertions import FederatedCredential
from local.breaks.cluster import CLIENT_ID
from local.hops import break_hop
from tests.diagnosis.conftest import Doctor, find_hop, format_hops
from tests.onboarding.conftest import ACCOUNT, GUIDE_IDENTITY, IDENTITY, MERGE, NAMESPACE

pytestmark = pytest.mark.servers


async def test_what_azure_does_to_a_cluster_is_a_warning_and_a_deleted_one_has_no_server_to_blame(
    doctor: Doctor,
) -> None:
    cluster = await doctor.onboard()
    azure = doctor.onboarding.azure(cluster)
    azure._failure = {"code": "QuotaExceeded", "message": "no cores are left"}
    for state, category in (("Upgrading", "cluster_changing"), ("Failed", None)):
        azure.provisioning_state = state
        hop = find_hop(await doctor.examine(cluster), "cluster-state")
        assert (hop.state, hop.category) == ("warning", category)
        assert hop.evidence["provisioning error"] == "no cores are left"
    doctor.world.cloud.arm.clusters.remove(str(cluster.id))
    await cluster.server.stop()
    diagnosis = await doctor.examine(cluster)
    failed = {hop.name: hop.category for hop in diagnosis.hops if hop.state == "failed"}
    assert failed == {"cluster-state": "cluster_gone"}, format_hops(diagnosis)
    assert find_hop(diagnosis, "api-server").because == "cluster-state"


async def test_the_identity_that_counts_is_the_one_with_the_credentials(doctor: Doctor) -> None:
    """The guide's may be there too, with another's credential. The audience is the one that was asked for. Of several
    credentials, the one that is most like it is shown.
    """
    cluster = await doctor.onboard(audience="api://AzureADTokenExchangeUSGov")
    doctor.onboarding.fill_identity(1, GUIDE_IDENTITY)
    diagnosis = await doctor.examine(cluster)
    assert diagnosis.state == "ok", format_hops(diagnosis)
    guide = doctor.onboarding.identity(GUIDE_IDENTITY)
    assert guide
    account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{ACCOUNT}"
    annotations = {CLIENT_ID: guide.service_principal.client_id}
    await cluster.admin.call("PATCH", account, {"metadata": {"annotations": annotations}}, content_type=MERGE)
    diagnosis = await doctor.examine(cluster)
    assert [hop.name for hop in diagnosis.hops if hop.state == "failed"] == ["service-account"], format_hops(diagnosis)
    async with (
        break_hop(doctor.world.cloud, cluster, "service-account", "client-id"),
        break_hop(doctor.world.cloud, cluster, "federated-credential", "missing"),
    ):
        diagnosis = await doctor.examine(cluster)
    failed = [hop.name for hop in diagnosis.hops if hop.state == "failed"]
    assert failed == ["federated-credential", "service-account"], format_hops(diagnosis)
    assert find_hop(diagnosis, "service-account").category == "object_drifted", "no identity has that client id"
    async with break_hop(doctor.world.cloud, cluster, "federated-credential", "audience"):
        trust = find_hop(await doctor.examine(cluster), "federated-credential")
    assert (trust.evidence["identity"], trust.state) == (IDENTITY, "failed")
    await cluster.admin.call("PATCH", account, {"metadata": {"labels": None}}, content_type=MERGE)
    async with break_hop(doctor.world.cloud, cluster, "federated-credential", "subject"):
        other = FederatedCredential(
            str(trust.evidence["issuer"]), "system:serviceaccount:z:z", trust.evidence["audience expected"]
        )
        doctor.world.cloud.arm.federated_credentials.add(guide, "alike", other)
        diagnosis = await doctor.examine(cluster)
    assert find_hop(diagnosis, "service-account").category == "object_drifted", "an account without any label"
    trust = find_hop(diagnosis, "federated-credential")
    assert (trust.evidence["identity"], trust.state) == (IDENTITY, "failed"), (
        "as many parts are equal, and fewer characters"
    )
