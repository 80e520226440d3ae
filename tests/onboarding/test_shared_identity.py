"""An identity that Pullkeeper did not create may have rights in Azure: its owner has to allow its use."""

import pytest

from tests.onboarding.conftest import GUIDE_IDENTITY, Onboarding, describe, identity_id, step

pytestmark = pytest.mark.servers
SHARED = {"pullkeeper": "shared"}


@pytest.mark.parametrize(("tags", "dry"), [({}, False), ({"pullkeeper": "no"}, True)])
async def test_an_identity_that_is_not_shared_is_refused_with_the_command_to_share_it(
    onboarding: Onboarding, tags: dict[str, str], *, dry: bool
) -> None:
    cluster = await onboarding.cluster("aks-1")
    theirs = onboarding.world.cloud.arm.identities.add(identity_id("database-admin"), tags=tags)
    body = {"cluster": str(cluster.id), "hub": "main", "identity": "database-admin", "dryRun": dry}
    ended = await onboarding.run(body)
    refused = step(ended, "identity")
    assert (ended.status, refused.category) == ("Failed", "invalid_request"), describe(ended)
    command = f"az tag update --resource-id {theirs.resource_id} --operation merge --tags pullkeeper=shared"
    assert command.lower() in (refused.detail or "").lower()
    assert onboarding.credentials("database-admin") == {}


async def test_a_shared_identity_is_used_and_kept(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.world.cloud.arm.identities.add(identity_id("database-admin"), tags=SHARED)
    await onboarding.onboard(cluster, identity="database-admin")
    assert len(onboarding.credentials("database-admin")) == 1
    assert onboarding.identity() is None
    await onboarding.offboard_fully(cluster)
    assert onboarding.identity("database-admin") is not None
    assert onboarding.credentials("database-admin") == {}


@pytest.mark.parametrize("earlier", [{"federatedCredential": "first"}, {"identity": "web-admin"}], ids=str)
async def test_a_credential_of_an_earlier_name_or_identity_is_removed(
    onboarding: Onboarding, earlier: dict[str, str]
) -> None:
    cluster, names = await onboarding.cluster("aks-1"), ("database-admin", "web-admin")
    for name in names:
        onboarding.world.cloud.arm.identities.add(identity_id(name), tags=SHARED)
    await onboarding.onboard(cluster, **{"identity": "database-admin", **earlier})
    await onboarding.onboard(cluster, identity="database-admin")
    ended = await onboarding.offboard(cluster)
    assert str(step(ended, "refresher").detail).count("Role deepintshield/pullkeeper-refresher ") == 1
    assert [onboarding.credentials(name) for name in names] == [{}, {}]


async def test_a_shared_identity_gets_no_tags(onboarding: Onboarding) -> None:
    """With ours it would be deleted with the cluster."""
    cluster = await onboarding.cluster("aks-1")
    onboarding.world.cloud.arm.identities.add(identity_id("database-admin"), tags=SHARED)
    await onboarding.onboard(cluster, identity="database-admin", identityTags={"team": "platform"})
    identity = onboarding.identity("database-admin")
    assert identity
    assert identity.tags == SHARED


@pytest.mark.parametrize("name", [GUIDE_IDENTITY, GUIDE_IDENTITY.title()])
async def test_the_guides_identity_needs_no_tag(onboarding: Onboarding, name: str) -> None:
    """The guide creates exactly this identity, for exactly this purpose. In Azure, case does not matter."""
    cluster = await onboarding.cluster("aks-1")
    onboarding.world.cloud.arm.identities.add(identity_id(name))
    await onboarding.onboard(cluster, identity=GUIDE_IDENTITY)
    assert len(onboarding.credentials(GUIDE_IDENTITY)) == 1
