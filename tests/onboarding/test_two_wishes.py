"""Naming the secret and being federated are two wishes: the second one only for accounts that ask."""

from typing import Any, Final

import pytest

from tests.onboarding.conftest import IDENTITY, Onboarding, describe, get_service_account, step

pytestmark = pytest.mark.servers
_PLAIN: Final[dict[str, Any]] = {"namespace": "team-a", "serviceAccounts": ["app", "worker"]}
_MIXED: Final[dict[str, Any]] = {**_PLAIN, "serviceAccounts": ["app", {"name": "worker", "federate": True}]}
_CLIENT_ID: Final = "azure.workload.identity/client-id"
_USE: Final = "azure.workload.identity/use"


async def test_accounts_that_do_not_ask_need_no_identity_and_no_issuer(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    azure = onboarding.azure(cluster)
    azure.oidc_issuer, azure.workload_identity = None, False
    planned = await onboarding.onboard(cluster, targets=[_PLAIN], dryRun=True)
    done = await onboarding.onboard(cluster, targets=[_PLAIN])
    for operation in (planned, done):
        assert str(step(operation, "inspect cluster").detail).endswith("OIDC issuer off")
        assert step(operation, "identity").detail == "not needed: no service account asks for federation"
        assert step(operation, "federated credential").detail == "no service account asks for it"
    assert onboarding.world.cloud.arm.writes == []
    for name in ("app", "worker"):
        account = await get_service_account(cluster, name, "team-a")
        assert account["imagePullSecrets"] == [{"name": "ar-pull-secret"}]
        assert _CLIENT_ID not in account["metadata"].get("annotations", {})
        assert _USE not in account["metadata"]["labels"]
    gone = await onboarding.offboard(cluster)
    assert step(gone, "identity").detail == f"the identity {IDENTITY} does not exist"
    assert await onboarding.fleet() == set()


async def test_only_the_account_that_asks_is_federated(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    ended = await onboarding.onboard(cluster, targets=[_MIXED])
    assert "system:serviceaccount:team-a:worker is now trusted" in str(step(ended, "federated credential").detail)
    plain, federated = [await get_service_account(cluster, name, "team-a") for name in ("app", "worker")]
    assert (_CLIENT_ID in federated["metadata"]["annotations"], _USE in federated["metadata"]["labels"]) == (True, True)
    assert _CLIENT_ID not in plain["metadata"].get("annotations", {})
    assert {account["imagePullSecrets"][0]["name"] for account in (plain, federated)} == {"ar-pull-secret"}


async def test_an_account_that_no_longer_asks_loses_annotation_and_label(onboarding: Onboarding) -> None:
    """Its credential stays until the cluster is offboarded, as identities of earlier bodies do."""
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster, targets=[_MIXED])
    await onboarding.onboard(cluster, targets=[_PLAIN])
    account = await get_service_account(cluster, "worker", "team-a")
    assert _CLIENT_ID not in account["metadata"].get("annotations", {})
    assert _USE not in account["metadata"]["labels"]
    assert [*onboarding.credentials(IDENTITY)] != []
    await onboarding.offboard_fully(cluster)
    assert onboarding.identity(IDENTITY) is None


@pytest.mark.parametrize("target", [_MIXED, {}], ids=["one that asks", "none"])
async def test_the_issuer_must_be_on_only_for_accounts_that_ask(onboarding: Onboarding, target: dict[str, Any]) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.azure(cluster).workload_identity = False
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "targets": [target]})
    expected = ("Failed", "workload_identity_off") if target else ("Succeeded", None)
    assert (ended.status, step(ended, "inspect cluster").category) == expected, describe(ended)


async def test_the_jobs_of_in_cluster_refreshers_are_federated_without_asking(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    ended = await onboarding.onboard(cluster, targets=[_PLAIN], refresher="in-cluster")
    detail = str(step(ended, "federated credential").detail)
    assert "team-a:app is now trusted" in detail
    assert "team-a:worker" not in detail
