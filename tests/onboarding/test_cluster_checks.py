"""The checks of a cluster before onboarding: what is missing is reported with the command that fixes it, or enabled."""

import json
from datetime import timedelta
from typing import Any, Final

import pytest

from local.azure.arm import ONBOARDER
from local.azure.managed_cluster import ManagedCluster
from local.cloud import GROUP, SUBSCRIPTION
from local.serving import Fault
from pullkeeper.azure.clusters import AzureClusters, ClusterFacts, _parse_facts
from pullkeeper.model import ClusterId
from tests.onboarding.conftest import Onboarding, describe, step

pytestmark = pytest.mark.servers
AT = f"--subscription {SUBSCRIPTION} --resource-group platform --name aks-1"


@pytest.mark.parametrize(
    ("state", "category", "detail", "command"),
    [
        (
            {"version": "1.23.9"},
            "invalid_request",
            "Kubernetes 1.23.9: 1.24 is the oldest supported version",
            f"az aks upgrade {AT}",
        ),
        ({"power_state": "Stopped"}, "cluster_stopped", "power state: Stopped", "az aks start --subscription "),
        (
            {"oidc_issuer": None},
            "workload_identity_off",
            "OIDC issuer off",
            f"az aks update {AT} --enable-oidc-issuer --enable-workload-identity",
        ),
        (
            {"workload_identity": False},
            "workload_identity_off",
            "workload identity off",
            f"az aks update {AT} --enable-oidc-issuer --enable-workload-identity",
        ),
    ],
)
async def test_a_missing_prerequisite_is_reported_with_its_command_and_nothing_is_changed(
    onboarding: Onboarding, state: dict[str, Any], category: str, detail: str, command: str
) -> None:
    cluster = await onboarding.cluster("aks-1")
    for name, value in state.items():
        setattr(onboarding.azure(cluster), name, value)
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    failed = step(ended, "inspect cluster")
    assert (ended.status, failed.status, failed.category) == ("Failed", "failed", category)
    assert failed.detail == detail
    assert command in (failed.remedy or "")
    assert onboarding.world.cloud.arm.writes == []


async def test_a_cluster_that_does_not_exist_is_reported(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    await onboarding.cluster("aks-2")
    onboarding.world.cloud.arm.clusters.remove(str(cluster.id))
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    assert (ended.status, step(ended, "inspect cluster").category) == ("Failed", "cluster_gone")


CLEANER: Final = {"imageCleaner": {"enabled": True, "intervalHours": 48}}


def switched_off(cluster: ManagedCluster) -> None:
    cluster.oidc_issuer, cluster.workload_identity = None, False
    cluster.future_issuer = "https://oidc.example/later/"
    cluster.rest = {
        "sku": {"name": "Base"},
        "tags": {"team": "platform"},
        "properties": {"networkProfile": {"networkPlugin": "azure"}, "later": [1], "securityProfile": CLEANER},
    }


async def test_workload_identity_is_enabled_if_asked_and_nothing_else_changes(onboarding: Onboarding) -> None:
    """The update is conditional on the ETag that was read."""
    cluster = await onboarding.cluster("aks-1")
    azure = onboarding.azure(cluster)
    switched_off(azure)
    before, etag = azure.document("tenant"), azure.etag

    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "enableWorkloadIdentity": True})

    assert ended.status == "Succeeded", describe(ended)
    assert "restart pods that use a service account token" in str(step(ended, "inspect cluster").detail)
    after = azure.document("tenant")
    assert after["properties"].pop("oidcIssuerProfile") == {"enabled": True, "issuerURL": azure.future_issuer}
    assert after["properties"].pop("securityProfile") == {**CLEANER, "workloadIdentity": {"enabled": True}}
    for document in (before, after):
        for changing in ("oidcIssuerProfile", "securityProfile"):
            document["properties"].pop(changing, None)
        document.pop("eTag")
    assert after == before
    assert set(onboarding.credentials().values()) == {
        ("https://oidc.example/later/", "system:serviceaccount:deepintshield:deepintshield-sa")
    }
    requests = onboarding.world.cloud.arm_part.journal.requests
    [update] = [one for one in requests if one.method == "PUT" and "/managedClusters/" in one.path]
    assert update.headers["If-Match"].strip('"') == etag


async def test_a_change_that_shows_before_its_end_is_waited_for(onboarding: Onboarding) -> None:
    """Workload identity is on while Azure still changes the cluster."""
    onboarding.world.settings["ONBOARDING_WAIT_HOURS"] = "1"
    onboarding.world.cloud.arm.clusters.updating = timedelta(minutes=10)
    cluster = await onboarding.cluster("aks-1")
    onboarding.azure(cluster).workload_identity = False
    await onboarding.onboard(cluster, enableWorkloadIdentity=True)


async def test_a_change_by_another_client_delays_nothing_where_workload_identity_is_on(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.azure(cluster).provisioning_state = "Upgrading"
    begun = await onboarding.begin({"cluster": str(cluster.id)})
    ended = await onboarding.deliver(begun.id)
    assert ended.status == "AwaitingFederation"
    assert "restart pods" not in str(step(ended, "inspect cluster").detail)


@pytest.mark.parametrize("state", ["Failed", "Canceled"])
async def test_a_cluster_whose_last_change_has_not_succeeded_is_changed_at_once(
    onboarding: Onboarding, state: str
) -> None:
    cluster = await onboarding.cluster("aks-1")
    azure = onboarding.azure(cluster)
    azure.workload_identity, azure.provisioning_state = False, state
    await onboarding.onboard(cluster, enableWorkloadIdentity=True)


def test_an_issuer_that_is_off_has_no_address() -> None:
    issuer = {"enabled": False, "issuerURL": "https://oidc.example/earlier/"}
    found = {"location": "westeurope", "properties": {"kubernetesVersion": "1.34.2", "oidcIssuerProfile": issuer}}
    assert _parse_facts(found).issuer is None


def test_what_azure_leaves_out_of_a_cluster_is_as_usual() -> None:
    found: dict[str, Any] = {"location": "westeurope", "properties": {"kubernetesVersion": "1.34"}}
    facts = _parse_facts(found)
    assert (facts.power_state, facts.is_changing, facts.version) == ("Running", False, "1.34")
    found["properties"]["currentKubernetesVersion"] = "1.34.2"
    assert _parse_facts(found).version == "1.34.2", "the version that was asked for may be a prefix of it"
    assert _parse_facts({"location": "x", "properties": {"kubernetesVersion": ""}}).release < (1, 0)
    found["properties"]["status"] = {"provisioningError": {"code": "Why"}}
    assert _parse_facts(found).provisioning_error == "Why", "some have no message"


async def test_an_update_by_another_client_is_not_overwritten(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes between our reading and our writing. It is kept, and ours is made later."""
    cluster = await onboarding.cluster("aks-1")
    azure, enable = onboarding.azure(cluster), AzureClusters.enable_workload_identity
    switched_off(azure)
    arm = onboarding.world.cloud.arm_part

    async def enable_too_late(self: AzureClusters, cluster: ClusterId, facts: ClusterFacts) -> None:
        monkeypatch.setattr(AzureClusters, "enable_workload_identity", enable)
        azure.etag = "of another client's change"
        await enable(self, cluster, facts)

    monkeypatch.setattr(AzureClusters, "enable_workload_identity", enable_too_late)
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main", "enableWorkloadIdentity": True})
    ended = await onboarding.process(begun.id)
    assert ended.status == "Succeeded", describe(ended)
    assert azure.workload_identity
    assert arm.journal.count("PUT", "/managedClusters/") == 2


async def test_a_failed_update_is_reported_in_azures_words_and_requested_once(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    switched_off(onboarding.azure(cluster))
    onboarding.world.cloud.arm.clusters.failure = ("InternalOperationError", "no luck")
    body = {"cluster": str(cluster.id), "hub": "main", "enableWorkloadIdentity": True}
    ended = await onboarding.run(body)
    failed = step(ended, "inspect cluster")
    assert (ended.status, failed.category) == ("Failed", "workload_identity_off"), describe(ended)
    assert "no luck" in (failed.detail or "")
    assert f"az aks update {AT}" in (failed.remedy or "")
    assert "pods that use one may need a restart" in (failed.remedy or "")
    assert len(onboarding.world.cloud.arm.writes) == 1
    assert (await onboarding.run(body)).status == "Succeeded"


async def test_an_update_that_was_canceled_is_reported_by_its_state(onboarding: Onboarding) -> None:
    """Azure has no error for it."""
    cluster = await onboarding.cluster("aks-1")
    switched_off(onboarding.azure(cluster))
    onboarding.world.cloud.arm.clusters.updating = timedelta(minutes=20)
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main", "enableWorkloadIdentity": True})
    await onboarding.deliver(begun.id)
    onboarding.azure(cluster).provisioning_state = "Canceled"
    failed = step(await onboarding.deliver(begun.id), "inspect cluster")
    assert failed.category == "workload_identity_off"
    assert failed.detail == "Azure could not enable it: provisioning state: Canceled"


async def test_an_update_without_effect_is_a_failure(onboarding: Onboarding) -> None:
    """Azure accepts the update at once, and the cluster stays as it was."""
    onboarding.world.settings["ONBOARDING_WAIT_HOURS"] = "1"
    cluster = await onboarding.cluster("aks-1")
    azure = onboarding.azure(cluster)
    switched_off(azure)
    same = json.dumps(azure.document(onboarding.world.cloud.entra.tenant))
    onboarding.world.cloud.arm_part.faults.add(Fault(method="PUT", path="/managedClusters/", status=200, body=same))
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "enableWorkloadIdentity": True})
    failed = step(ended, "inspect cluster")
    assert (ended.status, failed.category) == ("Failed", "cluster_changing"), describe(ended)
    assert "not on yet" in (failed.detail or "")
    assert onboarding.world.cloud.arm.writes == []
    assert onboarding.world.cloud.arm_part.journal.count("PUT", "/managedClusters/") == 1


@pytest.mark.parametrize(
    ("has_public", "private", "asked", "status"),
    [
        (True, "aks-1.privatelink.invalid", "public", "Succeeded"),
        (False, "aks-1.privatelink.invalid", None, "Failed"),
        (True, "localhost", None, "Failed"),
    ],
    ids=["unknown", "without a public name", "known"],
)
async def test_a_private_cluster_is_reached_by_its_public_name_without_its_dns_zone(
    onboarding: Onboarding, *, has_public: bool, private: str, asked: str | None, status: str
) -> None:
    """If it has one. Where its zone knows the private name, that is called."""
    cluster = await onboarding.cluster("aks-1")
    azure = onboarding.azure(cluster)
    azure.private_server, azure.public_fqdn = f"https://{private}:9", has_public

    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main"})

    assert ended.status == status, describe(ended)
    credentials = [one for one in onboarding.world.cloud.arm_part.journal.requests if one.method == "POST"]
    assert {one.query.get("server-fqdn") for one in credentials} == {asked}


async def test_a_missing_right_in_azure_is_reported_with_its_role(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    arm, app = onboarding.world.cloud.arm, onboarding.world.cloud.app
    arm.unassign(app.principal_id, f"/subscriptions/{SUBSCRIPTION}", ONBOARDER)
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    failed = step(ended, "identity")
    assert (ended.status, failed.category) == ("Failed", "arm_denied")
    assert "Microsoft.ManagedIdentity/userAssignedIdentities/read" in (failed.detail or "")
    scope = f"--scope /subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP} "
    assert f"--role 'Pullkeeper onboarding' {scope}" in (failed.remedy or "")
    assert f"--assignee-object-id {app.principal_id} " in (failed.remedy or "")


_VERBS: Final = ("get", "create", "patch", "delete")
_NEEDED: Final = {
    *((verb, kind) for verb in _VERBS for kind in ("serviceaccounts", "configmaps", "roles", "rolebindings")),
    *((verb, "namespaces") for verb in ("get", "create", "patch")),
    *((verb, "secrets") for verb in ("create", "patch", "delete")),
    *((verb, "cronjobs") for verb in ("get", "patch")),
    *((verb, "roles") for verb in ("escalate", "bind")),
}
_BY_LABEL: Final = {
    *((verb, kind) for verb in _VERBS for kind in ("clusterroles", "clusterrolebindings")),
    *((verb, "clusterroles") for verb in ("escalate", "bind")),
    ("list", "secrets"),
}


@pytest.mark.parametrize(
    ("more", "further"),
    [
        ({}, set()),
        (
            {"workload": {"image": "europe-docker.pkg.dev/p/r/app:1"}},
            {(verb, kind) for verb in _VERBS for kind in ("services", "deployments")},
        ),
        ({"targets": [{"namespace": "a"}, {"namespaceSelector": {"matchLabels": {"pull": "yes"}}}]}, _BY_LABEL),
    ],
    ids=["by default", "with a workload", "with a selector"],
)
async def test_missing_rights_in_the_cluster_are_reported_before_anything_is_created(
    onboarding: Onboarding, more: dict[str, Any], further: set[tuple[str, str]]
) -> None:
    """All that this operation needs, in one message, and no others."""
    cluster = await onboarding.cluster("aks-1")
    binding = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/platform-team"
    await cluster.admin.call("DELETE", binding)
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main", **more})
    failed = step(ended, "cluster access")
    assert (ended.status, failed.category) == ("Failed", "cluster_rbac_denied")
    listed = (failed.detail or "").removeprefix("the identity that onboards may not ").split("; ")
    missing = {(verb, kind) for verb, _, kinds in (one.partition(" ") for one in listed) for kind in kinds.split(", ")}
    accounts = {(verb, "serviceaccounts") for verb in _VERBS} if "targets" in more else set()
    assert missing == (_NEEDED | further) - accounts
    assert f"--assignee-object-id {onboarding.world.cloud.app.principal_id} " in (failed.remedy or "")
