"""In a sovereign cloud, tokens and audiences of the public one are refused: all follow from the setting AZURE_CLOUD."""

import json

import pytest

from local.azure.entra import SOVEREIGN
from pullkeeper.errors import EntraDenied
from tests.onboarding.conftest import IDENTITY, Onboarding, list_objects

pytestmark = pytest.mark.servers
JOB = "/apis/batch/v1/cronjobs/deepintshield/refresh-ar-pull-secret"
CONFIG = "/api/v1/configmaps/deepintshield/refresh-ar-pull-secret"


def _move(onboarding: Onboarding, cloud: str) -> None:
    """Move tenant and provider to the cloud."""
    tenant = onboarding.world.cloud.entra
    tenant.move_to(cloud)
    onboarding.world.cloud.hubs["main"].provider.issuer = tenant.issuer_v2
    onboarding.world.settings["AZURE_CLOUD"] = cloud


@pytest.mark.parametrize("name", SOVEREIGN)
async def test_a_cluster_of_a_sovereign_cloud_is_onboarded_and_refreshed(onboarding: Onboarding, name: str) -> None:
    _move(onboarding, name)
    cluster = await onboarding.cluster("aks-1")

    ended = await onboarding.onboard(cluster)
    await onboarding.world.refresh(cluster)

    exchange = SOVEREIGN[name][2]
    identity = onboarding.identity(IDENTITY)
    assert identity is not None
    trusted = onboarding.world.cloud.arm.federated_credentials.find_all(identity)
    assert [credential.trust.audience for credential in trusted] == [exchange]
    assert ended.result is not None
    assert ended.result.handover is not None
    assert ended.result.handover.issuer == onboarding.world.cloud.entra.issuer_v2
    diagnosis = await onboarding.world.services.diagnostics.examine_cluster(cluster.id)
    assert diagnosis.state == "ok", diagnosis


async def test_without_the_setting_a_sovereign_tenant_refuses(onboarding: Onboarding) -> None:
    _move(onboarding, "AzureUSGovernment")
    del onboarding.world.settings["AZURE_CLOUD"]
    cluster = await onboarding.cluster("aks-1")

    with pytest.raises(EntraDenied):
        await onboarding.world.services.refresher._writer._access.locate(cluster.id)


async def test_an_in_cluster_refresher_exchanges_tokens_of_its_cloud(onboarding: Onboarding) -> None:
    _move(onboarding, "AzureChina")
    cluster = await onboarding.cluster("aks-1")

    await onboarding.onboard(cluster, refresher="in-cluster")

    found = await list_objects(cluster)
    volumes = found[JOB]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["volumes"]
    assert '"audience": "api://AzureADTokenExchangeChina"' in json.dumps(volumes)
    settings = json.loads(found[CONFIG]["data"]["settings.json"])
    assert settings["entra"]["scope"] == "api://AzureADTokenExchangeChina/.default"


async def test_another_audience_of_the_pods_tokens_can_be_requested(onboarding: Onboarding) -> None:
    """For a cluster whose pods get tokens for the audience of the public cloud."""
    _move(onboarding, "AzureUSGovernment")
    cluster = await onboarding.cluster("aks-1")

    await onboarding.onboard(cluster, audience="api://AzureADTokenExchange", refresher="in-cluster")

    identity = onboarding.identity(IDENTITY)
    assert identity is not None
    trusted = onboarding.world.cloud.arm.federated_credentials.find_all(identity)
    assert [credential.trust.audience for credential in trusted] == ["api://AzureADTokenExchange"]
    assert '"audience": "api://AzureADTokenExchange"' in json.dumps((await list_objects(cluster))[JOB])
