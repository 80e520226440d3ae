"""Clusters in Azure Resource Manager's stand-in, read and updated by Microsoft's own client."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import yaml
from azure.core.exceptions import HttpResponseError
from azure.mgmt.containerservice.aio import ContainerServiceClient

from tests.local.conftest import API_SERVER, BLUE, SUBSCRIPTION, Azure

ISSUER = "https://westeurope.oic.prod-aks.azure.com/tenant/blue/"


@dataclass(frozen=True, slots=True)
class Sdk:
    """The client, for the cluster Blue."""

    client: ContainerServiceClient

    async def get(self) -> Any:
        return await self.client.managed_clusters.get("Platform", "Blue")

    async def put(self, cluster: Any, **conditions: Any) -> Any:
        """The cluster as Azure accepts it; the change is followed by `get`."""
        poller = await self.client.managed_clusters.begin_create_or_update(
            "Platform", "Blue", cluster, polling=False, **conditions
        )
        return await poller.result()

    async def enable(self, **conditions: Any) -> Any:
        """Switch on issuer and workload identity as the app does: change what was read, and put it back."""
        cluster = await self.get()
        cluster["properties"]["oidcIssuerProfile"] = {"enabled": True}
        security = cluster["properties"].get("securityProfile") or {}
        cluster["properties"]["securityProfile"] = {**security, "workloadIdentity": {"enabled": True}}
        return await self.put(cluster, **conditions)

    async def user(self) -> dict[str, Any]:
        """The user of the kubeconfig."""
        given = await self.client.managed_clusters.list_cluster_user_credentials("Platform", "Blue")
        assert given.kubeconfigs is not None
        assert given.kubeconfigs[0].value is not None
        kubeconfig = yaml.safe_load(given.kubeconfigs[0].value)
        assert kubeconfig["clusters"][0]["cluster"]["server"] == API_SERVER
        user: dict[str, Any] = kubeconfig["users"][0]["user"]
        return user


@pytest.fixture
async def sdk(azure: Azure) -> AsyncIterator[Sdk]:
    azure.arm.clusters.updating = timedelta()
    async with ContainerServiceClient(azure.credential, SUBSCRIPTION, base_url=azure.url, retry_total=0) as client:
        yield Sdk(client)


async def test_unknown_properties_survive_an_update_that_keeps_them(azure: Azure, sdk: Sdk) -> None:
    defender = {"defender": {"securityMonitoring": {"enabled": True}}}
    azure.blue.rest = {
        "sku": {"name": "Base", "tier": "Standard"},
        "tags": {"team": "platform"},
        "properties": {"futureProfile": {"deep": [{"er": 1}]}, "securityProfile": defender},
    }

    await sdk.enable()

    after = (await sdk.get()).as_dict()
    assert (after["sku"], after["tags"]) == ({"name": "Base", "tier": "Standard"}, {"team": "platform"})
    assert after["properties"]["futureProfile"] == {"deep": [{"er": 1}]}
    assert after["properties"]["securityProfile"] == {**defender, "workloadIdentity": {"enabled": True}}
    assert after["properties"]["aadProfile"]["managed"] is True


async def test_properties_that_an_update_leaves_out_are_removed(azure: Azure, sdk: Sdk) -> None:
    azure.blue.workload_identity = True
    azure.blue.rest = {"tags": {"team": "platform"}, "properties": {"futureProfile": {"on": True}}}

    await sdk.put({"location": "westeurope", "properties": {}})

    after = (await sdk.get()).as_dict()
    assert "futureProfile" not in after["properties"]
    assert "workloadIdentity" not in after["properties"]["securityProfile"]
    assert "tags" not in after


@pytest.mark.parametrize(
    ("state", "body", "status", "code"),
    [
        ({}, {"properties": {}}, 400, "LocationRequired"),
        ({}, {"location": "northeurope", "properties": {}}, 409, "InvalidResourceLocation"),
        ({}, {"location": "westeurope"}, 400, "InvalidRequestContent"),
        ({}, [], 400, "InvalidRequestContent"),
        ({}, b"{", 400, "InvalidRequestContent"),
        ({}, {"securityProfile": {"workloadIdentity": {"enabled": True}}}, 400, "InvalidParameter"),
        ({"oidc_issuer": ISSUER}, {"oidcIssuerProfile": {"enabled": False}}, 400, "OIDCIssuerFeatureCannotBeDisabled"),
        ({"oidc_issuer": ISSUER}, {}, 400, "OIDCIssuerFeatureCannotBeDisabled"),
        ({"power_state": "Stopped"}, {}, 409, "OperationNotAllowed"),
        ({"provisioning_state": "Updating"}, {}, 409, "OperationNotAllowed"),
    ],
)
async def test_an_invalid_update_changes_nothing(
    azure: Azure, state: dict[str, Any], body: Any, status: int, code: str
) -> None:
    """A body without properties and location stands for the properties."""
    for name, value in state.items():
        setattr(azure.blue, name, value)
    if isinstance(body, dict) and not body.keys() & {"location", "properties"}:
        body = {"location": "West Europe", "properties": body}

    response = await azure.send("PUT", f"{BLUE}?api-version=2026-08-01", body=body)

    assert response.error == (status, code)
    assert azure.arm.writes == []


@pytest.mark.parametrize(
    ("header", "value", "path", "expected"),
    [
        ("If_Match", '"old"', BLUE, (412, "PreconditionFailed")),
        ("If_Match", "*", f"{BLUE}-missing", (412, "PreconditionFailed")),
        ("If_None_Match", "*", BLUE, (501, "NotImplemented")),
    ],
)
async def test_conditions_are_checked(
    azure: Azure, header: str, value: str, path: str, expected: tuple[int, str]
) -> None:
    body = {"location": "westeurope", "properties": {}}

    response = await azure.send("PUT", f"{path}?api-version=2026-08-01", body=body, **{header: value})

    assert response.error == expected


async def test_a_cluster_takes_twenty_updates_at_once_and_one_a_minute(azure: Azure, sdk: Sdk) -> None:
    cluster = await sdk.get()
    for _ in range(20):
        await sdk.put(cluster)

    with pytest.raises(HttpResponseError, match="PutManagedClusterHandler"):
        await sdk.put(cluster)
    azure.clock.advance(timedelta(minutes=1))
    await sdk.put(cluster)
