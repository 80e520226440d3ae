"""Clusters in Azure Resource Manager's stand-in, read and updated by Microsoft's own client."""

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import yaml
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError
from azure.mgmt.containerservice.aio import ContainerServiceClient

from local.azure.arm import READER
from local.azure.entra import AKS
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


async def test_a_cluster_reads_as_azure_writes_it(azure: Azure, sdk: Sdk) -> None:
    found = await sdk.get()

    assert (found.name, found.location, found.power_state.code) == ("Blue", "westeurope", "Running")
    assert found.id == BLUE.replace("resourceGroups", "resourcegroups")
    assert found.aad_profile.tenant_id == azure.entra.tenant
    assert (found.oidc_issuer_profile.enabled, found.oidc_issuer_profile.issuer_url) == (False, None)
    assert found.security_profile.workload_identity is None


async def test_the_kubeconfig_of_a_cluster_with_entra_calls_kubelogin(azure: Azure, sdk: Sdk) -> None:
    azure.blue.power_state = "Stopped"

    command = (await sdk.user())["exec"]

    options = dict(zip(command["args"][1::2], command["args"][2::2], strict=True))
    assert (command["command"], command["args"][0]) == ("kubelogin", "get-token")
    assert (options["--server-id"], options["--tenant-id"]) == (AKS, azure.entra.tenant)


async def test_the_kubeconfig_of_a_cluster_with_local_accounts_holds_a_certificate(azure: Azure, sdk: Sdk) -> None:
    azure.blue.client_certificate, azure.blue.client_key = "a certificate", "a key"

    user = await sdk.user()

    assert {"client-certificate-data", "client-key-data", "token"} == set(user)
    assert base64.b64decode(user["client-certificate-data"]) == b"a certificate"
    assert (await sdk.get()).aad_profile is None


async def test_an_issuer_gets_its_address_at_the_end_of_the_update(azure: Azure, sdk: Sdk) -> None:
    azure.blue.future_issuer = ISSUER
    azure.arm.clusters.updating = timedelta(minutes=5)
    before = await sdk.get()

    during = await sdk.enable(etag=before["eTag"], match_condition=MatchConditions.IfNotModified)
    azure.clock.advance(timedelta(minutes=5))
    after = await sdk.get()

    assert (during.provisioning_state, after.provisioning_state) == ("Updating", "Succeeded")
    assert (during.oidc_issuer_profile.enabled, during.oidc_issuer_profile.issuer_url) == (True, None)
    assert after.oidc_issuer_profile.issuer_url == ISSUER
    assert after.security_profile.workload_identity.enabled is True
    assert len({before["eTag"], during["eTag"], after["eTag"]}) == 3
    assert azure.arm.writes == [("PUT", BLUE)]


async def test_by_default_an_issuer_looks_like_one_of_aks(sdk: Sdk) -> None:
    await sdk.enable()

    issuer = (await sdk.get()).oidc_issuer_profile.issuer_url

    assert issuer.startswith("https://westeurope.oic.prod-aks.azure.com/")
    assert issuer.endswith("/")


async def test_workload_identity_can_be_disabled_and_the_issuer_stays(azure: Azure, sdk: Sdk) -> None:
    """As `az aks update --disable-workload-identity` does."""
    await sdk.enable()
    cluster = await sdk.get()
    cluster["properties"]["securityProfile"]["workloadIdentity"] = {"enabled": False}

    await sdk.put(cluster)

    assert (azure.blue.workload_identity, bool(azure.blue.oidc_issuer)) == (False, True)


async def test_an_update_that_fails_says_why(azure: Azure, sdk: Sdk) -> None:
    azure.arm.clusters.failure = ("ReconcileOIDCProfileError", "Reconciling the issuer failed.")

    await sdk.enable()
    failed = await sdk.get()
    await sdk.enable()
    succeeded = await sdk.get()

    assert (failed.provisioning_state, failed.oidc_issuer_profile.issuer_url) == ("Failed", None)
    error = failed.properties.status.provisioning_error
    assert (error.code, error.message) == ("ReconcileOIDCProfileError", "Reconciling the issuer failed.")
    assert (succeeded.provisioning_state, succeeded.properties.status) == ("Succeeded", None)


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


async def test_read_only_properties_are_ignored(sdk: Sdk) -> None:
    properties = {
        "provisioningState": "Succeeded",
        "powerState": {"code": "Stopped"},
        "fqdn": "elsewhere",
        "oidcIssuerProfile": {"enabled": True, "issuerURL": "https://mine.example/"},
    }
    body = {"location": "westeurope", "name": "green", "eTag": "mine", "properties": properties}

    await sdk.put(body)

    after = await sdk.get()
    assert (after.name, after.power_state.code, after.fqdn) == ("Blue", "Running", API_SERVER[8:-4])
    assert after["eTag"] != "mine"
    assert after.oidc_issuer_profile.issuer_url != "https://mine.example/"


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


async def test_an_update_needs_the_right_to_write(azure: Azure, sdk: Sdk) -> None:
    azure.assign(READER, f"/subscriptions/{SUBSCRIPTION}")

    with pytest.raises(HttpResponseError, match="managedClusters/write"):
        await sdk.enable()


async def test_a_cluster_takes_twenty_updates_at_once_and_one_a_minute(azure: Azure, sdk: Sdk) -> None:
    cluster = await sdk.get()
    for _ in range(20):
        await sdk.put(cluster)

    with pytest.raises(HttpResponseError, match="PutManagedClusterHandler"):
        await sdk.put(cluster)
    azure.clock.advance(timedelta(minutes=1))
    await sdk.put(cluster)
