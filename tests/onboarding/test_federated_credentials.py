"""Federated credentials: to the letter, never over somebody else's, twenty to an identity."""

import asyncio
from typing import Any

import pytest

from local.azure.assertions import FederatedCredential
from local.azure.managed_cluster import ManagedCluster
from local.cloud import SUBSCRIPTION, LocalCluster
from pullkeeper.errors import InvalidRequest
from tests.onboarding.conftest import (
    ACCOUNT,
    AUDIENCE,
    IDENTITY,
    SUBJECT,
    Onboarding,
    describe,
    get_service_account,
    identity_id,
    step,
)

pytestmark = pytest.mark.servers


async def client_id(cluster: LocalCluster, account: str = ACCOUNT) -> str:
    annotations: dict[str, Any] = (await get_service_account(cluster, account))["metadata"]["annotations"]
    return str(annotations["azure.workload.identity/client-id"])


@pytest.mark.parametrize("issuer", ["https://oidc.example/a/", "https://oidc.example/a", "https://Oidc.Example/A/b/"])
async def test_the_issuer_is_the_clusters_to_the_letter(onboarding: Onboarding, issuer: str) -> None:
    cluster = await onboarding.cluster("aks-1")
    azure: ManagedCluster = onboarding.azure(cluster)
    azure.oidc_issuer = issuer
    await onboarding.onboard(cluster)
    [(name, pair)] = onboarding.credentials().items()
    assert name.startswith("deepintshield-federated-credential-")
    assert pair == (issuer, SUBJECT)
    [credential] = onboarding.world.cloud.arm.federated_credentials.find_all(onboarding.identity())  # type: ignore[arg-type]
    assert credential.trust.audience == AUDIENCE


async def test_a_pair_that_is_there_under_another_name_is_good(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    identity = onboarding.world.cloud.arm.identities.add(identity_id(IDENTITY))
    issuer = onboarding.azure(cluster).oidc_issuer or ""
    onboarding.world.cloud.arm.federated_credentials.add(
        identity, "by-hand", FederatedCredential(issuer, SUBJECT, AUDIENCE)
    )
    await onboarding.onboard(cluster)
    assert onboarding.credentials() == {"by-hand": (issuer, SUBJECT)}
    assert onboarding.world.cloud.arm.writes == []


async def test_no_cluster_takes_the_name_of_anothers(onboarding: Onboarding) -> None:
    """Not even from another instance at the same moment: the name holds the pair."""
    first, second = await onboarding.cluster("aks-1"), await onboarding.cluster("aks-2")
    await onboarding.onboard(first)
    await onboarding.onboard(second)
    held = onboarding.credentials()
    assert len(held) == 2
    assert all(name.startswith("deepintshield-federated-credential-") for name in held)
    assert set(held.values()) == {(onboarding.azure(one).oidc_issuer, SUBJECT) for one in (first, second)}


async def test_others_who_write_at_the_same_time_are_waited_for(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.world.cloud.arm.federated_credentials.conflicts = 2
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    ended = await onboarding.deliver(begun.id)
    assert ended.status == "Succeeded", describe(ended)


async def test_others_who_never_stop_writing_are_told(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.world.cloud.arm.federated_credentials.conflicts = 1000
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


async def test_the_twentieth_still_fits(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.fill_identity(19)
    await onboarding.onboard(cluster)
    assert len(onboarding.credentials()) == 20
    assert onboarding.identity(f"{IDENTITY}-2") is None


async def test_past_twenty_there_is_a_further_identity_which_the_pods_get(onboarding: Onboarding) -> None:
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


async def test_room_that_opens_later_moves_nobody(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.fill_identity(20)
    await onboarding.onboard(cluster)
    before = await client_id(cluster)
    arm = onboarding.world.cloud.arm
    arm.federated_credentials.remove(onboarding.identity(), "other-3")  # type: ignore[arg-type]
    await onboarding.onboard(cluster)
    assert await client_id(cluster) == before
    assert len(onboarding.credentials()) == 19


async def test_all_accounts_of_a_cluster_are_one_identity(onboarding: Onboarding) -> None:
    """One place is left for two accounts: both go where there is room for both."""
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


async def test_ten_full_identities_are_told(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    for name in (IDENTITY, *(f"{IDENTITY}-{number}" for number in range(2, 11))):
        onboarding.fill_identity(20, name)
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    failed = step(ended, "federated credential")
    assert (ended.status, failed.category) == ("Failed", "identity_limit")
    at = f"--subscription {SUBSCRIPTION} --resource-group platform --identity-name "
    assert f"az identity federated-credential list {at}" in (failed.remedy or "")
    assert onboarding.world.cloud.arm.writes == []


async def test_clusters_whose_names_meet_keep_their_own(onboarding: Onboarding) -> None:
    """The one's prefix and name read like the other's."""
    first, second = await onboarding.cluster("shop-west"), await onboarding.cluster("west")
    await onboarding.onboard(first)
    await onboarding.onboard(second, federatedCredential="deepintshield-federated-credential-shop")
    assert len(onboarding.credentials()) == 2
    await onboarding.offboard_fully(second)
    assert set(onboarding.credentials().values()) == {(onboarding.azure(first).oidc_issuer, SUBJECT)}


async def test_that_of_a_cluster_that_was_made_anew_takes_the_place_of_its_old_one(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster)
    onboarding.azure(cluster).oidc_issuer = "https://oidc.example/anew/"
    await onboarding.onboard(cluster)
    assert list(onboarding.credentials().values()) == [("https://oidc.example/anew/", SUBJECT)]
    await onboarding.offboard_fully(cluster)
    assert onboarding.identity() is None


async def test_more_service_accounts_than_one_identity_can_be_are_refused(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    many = [{"namespace": f"team-{number}", "serviceAccounts": ["a", "b", "c"]} for number in range(7)]
    with pytest.raises(InvalidRequest, match="more than 20 serviceAccounts"):
        await onboarding.begin({"cluster": str(cluster.id), "hub": "main", "targets": many})
    fits = [*many[:6], {"namespace": "team-6", "serviceAccounts": ["a", "b"]}, {**many[0], "secret": "another"}]
    assert (await onboarding.begin({"cluster": str(cluster.id), "hub": "main", "targets": fits})).status == "Queued"
