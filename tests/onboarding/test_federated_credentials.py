"""Federated credentials: exact, never over those of others, twenty for an identity."""

import asyncio
from typing import Any

import pytest

from local.azure.assertions import FederatedCredential
from local.cloud import SUBSCRIPTION, LocalCluster
from pullkeeper.errors import InvalidRequest
from tests.onboarding.conftest import (
    ACCOUNT,
    AUDIENCE,
    IDENTITY,
    SUBJECT,
    Onboarding,
    get_service_account,
    identity_id,
    step,
)

pytestmark = pytest.mark.servers


async def client_id(cluster: LocalCluster, account: str = ACCOUNT) -> str:
    annotations: dict[str, Any] = (await get_service_account(cluster, account))["metadata"]["annotations"]
    return str(annotations["azure.workload.identity/client-id"])


@pytest.mark.parametrize(
    ("issuer", "later"),
    [("https://oidc.example/a/", "https://oidc.example/a"), ("https://oidc.example/a", "https://Oidc.Example/A/b/")],
)
async def test_the_issuer_is_copied_exactly_and_replaced_when_the_cluster_was_created_again(
    onboarding: Onboarding, issuer: str, later: str
) -> None:
    cluster = await onboarding.cluster("aks-1")
    for present in (issuer, later):
        onboarding.azure(cluster).oidc_issuer = present
        await onboarding.onboard(cluster)
        [(name, pair)] = onboarding.credentials().items()
        assert name.startswith("deepintshield-federated-credential-")
        assert pair == (present, SUBJECT)
        [credential] = onboarding.world.cloud.arm.federated_credentials.find_all(onboarding.identity())  # type: ignore[arg-type]
        assert credential.trust.audience == AUDIENCE
    await onboarding.offboard_fully(cluster)
    assert onboarding.identity() is None


async def test_an_existing_credential_with_another_name_is_used(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    identity = onboarding.world.cloud.arm.identities.add(identity_id(IDENTITY))
    issuer = onboarding.azure(cluster).oidc_issuer or ""
    onboarding.world.cloud.arm.federated_credentials.add(
        identity, "by-hand", FederatedCredential(issuer, SUBJECT, AUDIENCE)
    )
    await onboarding.onboard(cluster)
    assert onboarding.credentials() == {"by-hand": (issuer, SUBJECT)}
    assert onboarding.world.cloud.arm.writes == []


async def test_each_cluster_has_a_credential_of_its_own(onboarding: Onboarding) -> None:
    """Also if another instance writes at the same moment: the name depends on the pair."""
    first, second = await onboarding.cluster("aks-1"), await onboarding.cluster("aks-2")
    await onboarding.onboard(first)
    await onboarding.onboard(second)
    held = onboarding.credentials()
    assert len(held) == 2
    assert all(name.startswith("deepintshield-federated-credential-") for name in held)
    assert set(held.values()) == {(onboarding.azure(one).oidc_issuer, SUBJECT) for one in (first, second)}


async def test_concurrent_writes_are_waited_for(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.world.cloud.arm.federated_credentials.conflicts = 2
    ended = await onboarding.onboard(cluster)
    assert (await onboarding.read_stored(ended.id)).tries == 0


async def test_endless_concurrent_writes_are_reported(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.world.settings["ONBOARDING_WAIT_HOURS"] = "1"
    onboarding.world.cloud.arm.federated_credentials.conflicts = 10_000
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    assert ended.status == "Failed"
    assert step(ended, "federated credential").category == "federated_credential_conflict"


async def test_clusters_of_a_group_onboarded_at_once_share_the_identity(onboarding: Onboarding) -> None:
    clusters = [await onboarding.cluster(f"aks-{number}") for number in range(4)]
    await asyncio.gather(*(onboarding.onboard(cluster) for cluster in clusters))
    expected = {(onboarding.azure(cluster).oidc_issuer, SUBJECT) for cluster in clusters}
    assert set(onboarding.credentials().values()) == expected
    identity = onboarding.identity()
    assert identity is not None
    assert {await client_id(cluster) for cluster in clusters} == {identity.service_principal.client_id}


async def test_the_twentieth_credential_fits(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.fill_identity(19)
    await onboarding.onboard(cluster)
    assert len(onboarding.credentials()) == 20
    assert onboarding.identity(f"{IDENTITY}-2") is None


async def test_beyond_twenty_credentials_the_pods_get_a_further_identity(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.fill_identity(20)
    for _ in range(2):
        await onboarding.onboard(cluster)
        further = onboarding.identity(f"{IDENTITY}-2")
        assert further is not None
        assert len(onboarding.credentials()) == 20
        assert list(onboarding.credentials(f"{IDENTITY}-2").values()) == [
            (onboarding.azure(cluster).oidc_issuer, SUBJECT)
        ]
        assert await client_id(cluster) == further.service_principal.client_id
    assert onboarding.identity(f"{IDENTITY}-3") is None

    # Room that opens elsewhere later moves no cluster.
    assert further is not None
    onboarding.world.cloud.arm.federated_credentials.remove(onboarding.identity(), "other-3")  # type: ignore[arg-type]
    await onboarding.onboard(cluster)
    assert await client_id(cluster) == further.service_principal.client_id
    assert len(onboarding.credentials()) == 19


async def test_all_accounts_of_a_cluster_use_one_identity(onboarding: Onboarding) -> None:
    """One place is left for two accounts: both use an identity that has room for both."""
    cluster = await onboarding.cluster("aks-1")
    onboarding.fill_identity(19)
    await onboarding.onboard(cluster, targets=[{"serviceAccounts": ["one", "two"]}])
    further = onboarding.identity(f"{IDENTITY}-2")
    assert further is not None
    assert {await client_id(cluster, name) for name in ("one", "two")} == {further.service_principal.client_id}
    assert {subject for _, subject in onboarding.credentials(f"{IDENTITY}-2").values()} == {
        "system:serviceaccount:deepintshield:one",
        "system:serviceaccount:deepintshield:two",
    }


async def test_ten_full_identities_are_reported(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    for name in (IDENTITY, *(f"{IDENTITY}-{number}" for number in range(2, 11))):
        onboarding.fill_identity(20, name)
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    failed = step(ended, "federated credential")
    assert (ended.status, failed.category) == ("Failed", "identity_limit")
    at = f"--subscription {SUBSCRIPTION} --resource-group platform --identity-name "
    assert f"az identity federated-credential list {at}" in (failed.remedy or "")
    assert onboarding.world.cloud.arm.writes == []


async def test_clusters_with_similar_names_keep_their_own_credentials(onboarding: Onboarding) -> None:
    """Prefix and name of one look like those of the other."""
    first, second = await onboarding.cluster("shop-west"), await onboarding.cluster("west")
    await onboarding.onboard(first)
    await onboarding.onboard(second, federatedCredential="deepintshield-federated-credential-shop")
    assert len(onboarding.credentials()) == 2
    await onboarding.offboard_fully(second)
    assert set(onboarding.credentials().values()) == {(onboarding.azure(first).oidc_issuer, SUBJECT)}


async def test_more_service_accounts_than_an_identity_takes_are_refused(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    many = [{"namespace": f"team-{number}", "serviceAccounts": ["a", "b", "c"]} for number in range(7)]
    with pytest.raises(InvalidRequest, match="more than 20 serviceAccounts"):
        await onboarding.begin({"cluster": str(cluster.id), "hub": "main", "targets": many})
    fits = [*many[:6], {"namespace": "team-6", "serviceAccounts": ["a", "b"]}, {**many[0], "secret": "another"}]
    assert (await onboarding.begin({"cluster": str(cluster.id), "hub": "main", "targets": fits})).status == "Queued"
