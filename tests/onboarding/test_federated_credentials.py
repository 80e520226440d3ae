"""Federated credentials: exact, never over those of others, twenty for an identity."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from azure.data.tables.aio import TableServiceClient

from local.azure.assertions import FederatedCredential
from local.cloud import SUBSCRIPTION, LocalCluster
from pullkeeper.azure.identities import OURS, SHARED
from pullkeeper.errors import InvalidRequest
from tests.onboarding.conftest import (
    ACCOUNT,
    AUDIENCE,
    GUIDE_IDENTITY,
    IDENTITY,
    NAMESPACE,
    SUBJECT,
    Onboarding,
    federated,
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


def trust(onboarding: Onboarding, cluster: LocalCluster, name: str, *others: str) -> str:
    """Have an identity trust the cluster's account, by a credential that Pullkeeper did not create, and others beside
    it. Return the cluster's issuer.
    """
    arm = onboarding.world.cloud.arm
    identity = arm.identities.find(identity_id(name)) or arm.identities.add(identity_id(name))
    issuer = onboarding.azure(cluster).oidc_issuer or ""
    for number, subject in enumerate((SUBJECT, *others)):
        arm.federated_credentials.add(identity, f"by-hand-{number}", FederatedCredential(issuer, subject, AUDIENCE))
    return issuer


async def test_the_guides_identity_stays_where_it_trusts_the_cluster(onboarding: Onboarding) -> None:
    """The publisher trusts it. Its other cluster, which it does not trust, gets an identity of its own."""
    first, second = await onboarding.cluster("aks-1"), await onboarding.cluster("aks-2")
    issuer = trust(onboarding, first, GUIDE_IDENTITY)
    planned = await onboarding.onboard(first, dryRun=True)
    assert step(planned, "federated credential").detail == f"already trusted as {GUIDE_IDENTITY}"
    await onboarding.onboard(first)
    assert onboarding.world.cloud.arm.writes == []
    assert onboarding.identity() is None
    guide = onboarding.identity(GUIDE_IDENTITY)
    assert guide is not None
    assert await client_id(first) == guide.service_principal.client_id

    await onboarding.onboard(second)
    own = onboarding.identity(f"{GUIDE_IDENTITY}-aks-2")
    assert own is not None
    assert await client_id(second) == own.service_principal.client_id
    assert onboarding.credentials(GUIDE_IDENTITY) == {"by-hand-0": (issuer, SUBJECT)}

    await onboarding.onboard(first, identity="named")
    assert onboarding.identity("named") is not None
    assert f"identity {GUIDE_IDENTITY}: not created by Pullkeeper" in await onboarding.offboard_fully(first)


@pytest.mark.parametrize("kept", [True, False], ids=["its own is kept", "its own is removed by hand"])
async def test_the_guides_identity_gets_the_credentials_that_are_missing(onboarding: Onboarding, *, kept: bool) -> None:
    cluster = await onboarding.cluster("aks-1")
    trust(onboarding, cluster, GUIDE_IDENTITY)
    await onboarding.onboard(cluster, targets=[{"serviceAccounts": federated(ACCOUNT, "another")}])
    assert len(onboarding.credentials(GUIDE_IDENTITY)) == 2
    assert onboarding.identity() is None
    guide = onboarding.identity(GUIDE_IDENTITY)
    assert guide is not None
    assert kept or onboarding.world.cloud.arm.federated_credentials.remove(guide, "by-hand-0")
    left = await onboarding.offboard_fully(cluster)
    assert set(onboarding.credentials(GUIDE_IDENTITY)) == ({"by-hand-0"} if kept else set())
    assert ("federated credential by-hand-0: on an identity that Pullkeeper did not create" in left) == kept
    assert f"identity {GUIDE_IDENTITY}: not created by Pullkeeper" in left


@pytest.mark.parametrize(("others", "chosen", "held"), [(18, GUIDE_IDENTITY, 20), (19, IDENTITY, 2)])
async def test_without_room_in_the_guides_identity_the_cluster_gets_its_own(
    onboarding: Onboarding, others: int, chosen: str, held: int
) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.fill_identity(others, GUIDE_IDENTITY)
    trust(onboarding, cluster, GUIDE_IDENTITY)
    await onboarding.onboard(cluster, targets=[{"serviceAccounts": federated(ACCOUNT, "another")}])
    identity = onboarding.identity(chosen)
    assert identity is not None
    assert {await client_id(cluster, name) for name in (ACCOUNT, "another")} == {identity.service_principal.client_id}
    assert len(onboarding.credentials(chosen)) == held


async def test_an_existing_credential_with_another_name_is_used(onboarding: Onboarding) -> None:
    """On the cluster's own identity, also where the guide's trusts it too. Offboarding removes those of all accounts
    that requests have named.
    """
    cluster = await onboarding.cluster("aks-1")
    trust(onboarding, cluster, GUIDE_IDENTITY)
    onboarding.fill_identity(0, **OURS)
    another, plain = "system:serviceaccount:elsewhere:another", f"system:serviceaccount:{NAMESPACE}:plain"
    issuer = trust(onboarding, cluster, IDENTITY, another, plain)
    before = {"by-hand-0": (issuer, SUBJECT), "by-hand-1": (issuer, another), "by-hand-2": (issuer, plain)}
    ended = await onboarding.onboard(cluster, targets=[{"serviceAccounts": [*federated(ACCOUNT), "plain"]}])
    assert step(ended, "federated credential").detail == f"{SUBJECT} is trusted as {IDENTITY}"
    assert onboarding.credentials() == before
    assert onboarding.world.cloud.arm.writes == []
    identity = onboarding.identity()
    assert identity is not None
    assert await client_id(cluster) == identity.service_principal.client_id
    await onboarding.offboard_fully(cluster)
    assert onboarding.credentials() == {"by-hand-1": (issuer, another)}, "no request has named that account"


async def test_a_credential_by_hand_is_known_by_its_issuer_also_after_that_was_switched_off(
    onboarding: Onboarding,
) -> None:
    """By the latest: the cluster may have been created again."""
    cluster = await onboarding.cluster("aks-1")
    onboarding.fill_identity(0, **SHARED)
    issuer, azure = trust(onboarding, cluster, IDENTITY), onboarding.azure(cluster)
    azure.oidc_issuer = "https://oidc.example/earlier/"
    await onboarding.onboard(cluster, federatedCredential="earlier")
    azure.oidc_issuer = issuer
    await onboarding.onboard(cluster)
    azure.oidc_issuer = None
    kept = await onboarding.offboard_fully(cluster)
    assert "federated credential by-hand-0: on an identity that Pullkeeper did not create" in kept


@pytest.mark.parametrize(
    ("issuer_is_on", "reason"),
    [
        (True, "on an identity that Pullkeeper did not create"),
        (False, "the cluster's issuer is unknown, so it may be another's"),
    ],
)
async def test_a_credential_by_hand_is_reported_where_the_issuer_is_unknown(
    onboarding: Onboarding, *, issuer_is_on: bool, reason: str
) -> None:
    """No operation is left that knew it: the cluster itself may."""
    cluster = await onboarding.cluster("aks-1")
    onboarding.fill_identity(0, **SHARED)
    trust(onboarding, cluster, IDENTITY)
    await onboarding.onboard(cluster)
    async with TableServiceClient.from_connection_string(onboarding.world.storage) as tables:
        table = tables.get_table_client("operations")
        for entity in [entity async for entity in table.list_entities()]:
            await table.delete_entity(entity)
    if not issuer_is_on:
        onboarding.azure(cluster).oidc_issuer = None
    kept = await onboarding.offboard_fully(cluster)
    assert f"federated credential by-hand-0: {reason}" in kept
    assert "by-hand-0" in onboarding.credentials()


async def test_each_cluster_has_an_identity_of_its_own(onboarding: Onboarding) -> None:
    """Also one with the longest names that AKS and Azure allow."""
    clusters = [await onboarding.cluster(name) for name in ("aks-1", "a" * 63)]
    prefixes = ["deepintshield-federated-credential", "f" * 120]
    await asyncio.gather(
        *(onboarding.onboard(one, federatedCredential=name) for one, name in zip(clusters, prefixes, strict=True))
    )
    for cluster, prefix in zip(clusters, prefixes, strict=True):
        name = f"deepintshield-pull-identity-{cluster.id.name}"
        [(credential, pair)] = onboarding.credentials(name).items()
        assert credential.startswith(f"{prefix[:44]}-{cluster.id.name}-")
        assert len(credential) <= 120
        assert pair == (onboarding.azure(cluster).oidc_issuer, SUBJECT)
        identity = onboarding.identity(name)
        assert identity is not None
        assert await client_id(cluster) == identity.service_principal.client_id
        await onboarding.offboard_fully(cluster)
        assert onboarding.identity(name) is None


async def test_concurrent_writes_are_waited_for(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.world.cloud.arm.federated_credentials.conflicts = 2
    ended = await onboarding.onboard(cluster)
    assert (await onboarding.read_stored(ended.id)).tries == 0


async def test_endless_concurrent_writes_are_reported(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.world.settings["ONBOARDING_WAIT_HOURS"] = "1"
    onboarding.world.cloud.arm.federated_credentials.conflicts = 10_000
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})
    assert (await onboarding.deliver(begun.id)).status == "Running"
    onboarding.world.clock.advance(timedelta(minutes=59))
    ended = await onboarding.process(begun.id)
    assert ended.status == "Failed"
    assert step(ended, "federated credential").category == "federated_credential_conflict"


async def test_clusters_can_share_an_identity(onboarding: Onboarding) -> None:
    clusters = [await onboarding.cluster(f"aks-{number}") for number in range(4)]
    await asyncio.gather(*(onboarding.onboard(cluster, identity="shop-pull") for cluster in clusters))
    expected = {(onboarding.azure(cluster).oidc_issuer, SUBJECT) for cluster in clusters}
    assert set(onboarding.credentials("shop-pull").values()) == expected
    identity = onboarding.identity("shop-pull")
    assert identity is not None
    assert {await client_id(cluster) for cluster in clusters} == {identity.service_principal.client_id}


async def test_the_twentieth_credential_fits(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.fill_identity(19, "shop-pull", pullkeeper="shared")
    await onboarding.onboard(cluster, identity="shop-pull")
    assert len(onboarding.credentials("shop-pull")) == 20


@pytest.mark.parametrize("accounts", [[ACCOUNT], [ACCOUNT, "another"]])
async def test_a_full_identity_is_reported_with_the_name_of_the_default(
    onboarding: Onboarding, accounts: list[str]
) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.fill_identity(21 - len(accounts), "shop-pull", pullkeeper="shared")
    body = {"cluster": str(cluster.id), "hub": "main", "targets": [{"serviceAccounts": federated(*accounts)}]}
    ended = await onboarding.run({**body, "identity": "shop-pull"})
    failed = step(ended, "federated credential")
    assert (ended.status, failed.category) == ("Failed", "identity_limit")
    assert (failed.remedy or "").startswith(f"Onboard without identity: the cluster gets one of its own, {IDENTITY}.")
    at = f"--subscription {SUBSCRIPTION} --resource-group platform --identity-name shop-pull"
    assert f"az identity federated-credential list {at}" in (failed.remedy or "")
    assert onboarding.world.cloud.arm.writes == []
    assert (await onboarding.run(body)).status == "Succeeded"


async def test_credentials_of_an_earlier_issuer_take_no_room(onboarding: Onboarding) -> None:
    """The cluster was deleted and created again, and has twenty accounts."""
    cluster = await onboarding.cluster("aks-1")
    onboarding.world.cloud.arm.federated_credentials.rate.burst = 60
    twenty = federated(*(f"account-{number}" for number in range(20)))
    for issuer in ("https://oidc.example/a/", "https://oidc.example/b/"):
        onboarding.azure(cluster).oidc_issuer = issuer
        planned = await onboarding.onboard(cluster, targets=[{"serviceAccounts": twenty}], dryRun=True)
        assert str(step(planned, "federated credential").detail).startswith("would trust ")
        await onboarding.onboard(cluster, targets=[{"serviceAccounts": twenty}])
        assert {one for one, _ in onboarding.credentials().values()} == {issuer}


async def test_clusters_with_similar_names_keep_their_own_credentials(onboarding: Onboarding) -> None:
    """Prefix and name of one look like those of the other."""
    first, second = await onboarding.cluster("shop-west"), await onboarding.cluster("west")
    await onboarding.onboard(first, identity="shop-pull")
    await onboarding.onboard(
        second, identity="shop-pull", federatedCredential="deepintshield-federated-credential-shop"
    )
    assert len(onboarding.credentials("shop-pull")) == 2
    await onboarding.offboard_fully(second)
    assert set(onboarding.credentials("shop-pull").values()) == {(onboarding.azure(first).oidc_issuer, SUBJECT)}


async def test_more_service_accounts_than_an_identity_takes_are_refused(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    asking = federated(*"abc")
    many = [{"namespace": f"team-{number}", "serviceAccounts": asking} for number in range(7)]
    with pytest.raises(InvalidRequest, match="21 service accounts to federate"):
        await onboarding.begin({"cluster": str(cluster.id), "hub": "main", "targets": many})
    fits = [*many[:6], {"namespace": "team-6", "serviceAccounts": asking[:2]}, {**many[0], "secret": "another"}]
    assert (await onboarding.begin({"cluster": str(cluster.id), "hub": "main", "targets": fits})).status == "Queued"
