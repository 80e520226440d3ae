"""Two identities: the stronger one onboards, and refreshing never uses it."""

import pytest
from azure.identity.aio import ManagedIdentityCredential

from local.cloud import GROUP, SUBSCRIPTION
from tests.onboarding.conftest import Onboarding, step
from tests.world import World

pytestmark = pytest.mark.servers


async def test_refreshing_never_uses_the_stronger_identity(two_identities: Onboarding) -> None:
    onboarding, world, strong = two_identities, two_identities.world, two_identities.world.cloud.onboarder
    assert strong is not None
    cloud, cluster = world.cloud, await onboarding.cluster("aks-1")

    ended = await onboarding.onboard(cluster)

    assert ended.result is not None
    assert ended.result.handover is not None
    assert ended.result.handover.client_id == cloud.app.client_id
    asked = {
        (seen.query["client_id"], seen.query["resource"].rstrip("/"))
        for seen in cloud.identity_part.journal.requests
        if "client_id" in seen.query
    }
    arm = "https://management.azure.com"
    assert {resource for client, resource in asked if client == strong.client_id} == {
        arm,
        "6dae42f8-4368-4678-94ff-3960e28e3630",
    }
    assert arm not in {resource for client, resource in asked if client == cloud.app.client_id}

    before = len(cloud.identity_part.journal.requests)
    cloud.identity.clear_cache()
    await onboarding.restart()
    await world.refresh(cluster)
    later = cloud.identity_part.journal.requests[before:]
    assert {seen.query["client_id"] for seen in later} == {cloud.app.client_id}


async def test_the_apps_identity_alone_cannot_onboard(world: World) -> None:
    """Without the setting one identity does both, and needs the rights of both."""
    world.settings["ONBOARDING_SCOPES"] = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    onboarding = Onboarding(world)
    cluster = await onboarding.cluster("aks-1")
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    assert (ended.status, step(ended, "identity").category) == ("Failed", "arm_denied")
    assert "--role 'Pullkeeper onboarding'" in (step(ended, "identity").remedy or "")


@pytest.mark.parametrize(("own", "expected"), [("storage", "storage"), ("", "app")])
async def test_storage_is_reached_with_the_identity_of_its_own_setting(
    world: World, monkeypatch: pytest.MonkeyPatch, own: str, expected: str
) -> None:
    """Without the setting, with that of the app."""
    used: list[str | None] = []
    monkeypatch.setattr("pullkeeper.fleet.storage.AioHttpTransport", lambda **_: None)

    def note(client_id: str | None) -> ManagedIdentityCredential:
        used.append(client_id)
        return ManagedIdentityCredential(client_id=client_id)

    monkeypatch.setattr("pullkeeper.services._credential", note)
    for part in ("queue", "table"):
        world.settings[f"AzureWebJobsStorage__{part}ServiceUri"] = f"https://acct.{part}.core.windows.net"
    world.settings |= {"AzureWebJobsStorage": "", "AzureWebJobsStorage__clientId": own, "AZURE_CLIENT_ID": "app"}
    assert world.services
    assert used == ["app", "app", expected]
