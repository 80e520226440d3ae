"""Changing clusters in Azure Resource Manager's stand-in, by Microsoft's own client: whole, under an ETag, slowly."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError
from azure.mgmt.containerservice.aio import ContainerServiceClient

from local.azure.arm import ONBOARDER, READER, Arm, ManagedCluster
from local.azure.caller import Caller
from local.azure.entra import Entra, Identity
from local.clock import Clock
from local.serving import Authority, Journal, Server

SUBSCRIPTION = "5eed5eed-0000-4000-8000-000000000001"
BLUE = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/Platform/providers/Microsoft.ContainerService/managedClusters/Blue"
)
ISSUER = "https://westeurope.oic.prod-aks.azure.com/tenant/blue/"


@dataclass(frozen=True, slots=True)
class Azure:
    clock: Clock
    caller: Identity
    arm: Arm
    blue: ManagedCluster
    client: ContainerServiceClient
    journal: Journal

    async def get(self) -> Any:
        return await self.client.managed_clusters.get("Platform", "Blue")

    async def put(self, cluster: Any, **conditions: Any) -> Any:
        """The poller; nobody has polled yet."""
        return await self.client.managed_clusters.begin_create_or_update(
            "Platform", "Blue", cluster, polling_interval=0, **conditions
        )

    async def enable(self, **conditions: Any) -> Any:
        """Issuer and workload identity, changed in place."""
        return await self.put(_enabled(await self.get()), **conditions)


def _enabled(cluster: Any) -> Any:
    cluster["properties"]["oidcIssuerProfile"] = {"enabled": True}
    security = cluster["properties"].get("securityProfile") or {}
    cluster["properties"]["securityProfile"] = {**security, "workloadIdentity": {"enabled": True}}
    return cluster


@pytest.fixture
async def azure(authority: Authority) -> AsyncIterator[Azure]:
    clock, journal = Clock(), Journal()
    entra = Entra(clock)
    caller = entra.add_identity("pullkeeper")
    arm = Arm(entra, clock, middlewares=[journal.middleware])
    blue = arm.add_cluster(ManagedCluster(BLUE, "https://blue.hcp.westeurope.azmk8s.io:443", "the CA"))
    arm.assign(caller.principal_id, f"/subscriptions/{SUBSCRIPTION}", ONBOARDER)
    arm.clusters.updating = timedelta()
    server = Server(arm.application, authority=authority)
    await server.start()
    async with ContainerServiceClient(
        Caller(entra, caller), SUBSCRIPTION, base_url=server.url, retry_total=0
    ) as client:
        yield Azure(clock, caller, arm, blue, client, journal)
    await server.stop()


async def _refused(azure: Azure, cluster: Any, **conditions: Any) -> tuple[int | None, str | None]:
    """Status and code, as the SDK reads them. Nothing has changed."""
    writes = list(azure.arm.writes)
    with pytest.raises(HttpResponseError) as raised:
        await azure.put(cluster, **conditions)
    assert azure.arm.writes == writes
    return raised.value.status_code, getattr(raised.value.error, "code", None)


async def test_switching_workload_identity_on_gives_the_cluster_an_issuer(azure: Azure) -> None:
    azure.blue.future_issuer = ISSUER
    before = await azure.get()

    after = await (await azure.enable(etag=before["eTag"], match_condition=MatchConditions.IfNotModified)).result()

    assert after.oidc_issuer_profile.issuer_url == ISSUER
    assert after.security_profile.workload_identity.enabled is True
    assert after.provisioning_state == "Succeeded"
    assert after["eTag"] != before["eTag"]
    assert azure.arm.writes == [("PUT", BLUE)]


async def test_an_issuer_that_nobody_chose_looks_like_one_of_aks(azure: Azure) -> None:
    after = await (await azure.enable()).result()

    assert after.oidc_issuer_profile.issuer_url.startswith("https://westeurope.oic.prod-aks.azure.com/")
    assert after.oidc_issuer_profile.issuer_url.endswith("/")


async def test_an_update_takes_its_time_by_the_clock(azure: Azure) -> None:
    """No issuer has an address before the end, and the operation is polled where the answer said."""
    azure.arm.clusters.updating = timedelta(minutes=5)

    poller = await azure.enable()
    during = await azure.get()
    azure.clock.advance(timedelta(minutes=5))
    after = await poller.result()

    assert (during.provisioning_state, after.provisioning_state) == ("Updating", "Succeeded")
    assert (during.oidc_issuer_profile.enabled, during.oidc_issuer_profile.issuer_url) == (True, None)
    assert after.oidc_issuer_profile.issuer_url
    operations = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.ContainerService/locations/westeurope/operations/"
    assert azure.journal.count("GET", operations) == 1


async def test_a_waiting_caller_polls_until_the_end(azure: Azure) -> None:
    azure.arm.clusters.updating = timedelta(seconds=0.3)
    poller = await azure.client.managed_clusters.begin_create_or_update(
        "Platform", "Blue", _enabled(await azure.get()), polling_interval=0.1
    )

    await poller.result()

    assert 2 <= azure.journal.count("GET", "/operations/") <= 5


async def test_an_update_that_fails_says_why(azure: Azure) -> None:
    azure.arm.clusters.failure = ("ReconcileOIDCProfileError", "Reconciling the issuer failed.")

    with pytest.raises(HttpResponseError, match="ReconcileOIDCProfileError"):
        await (await azure.enable()).result()

    assert (await azure.get()).provisioning_state == "Failed"
    assert (await azure.get()).oidc_issuer_profile.issuer_url is None
    await (await azure.enable()).result()
    assert (await azure.get()).provisioning_state == "Succeeded"


async def test_what_nobody_knows_survives_a_change_in_place(azure: Azure) -> None:
    """Also beside what is changed, and what the SDK knows but the stand-in does not."""
    azure.blue.rest = {
        "sku": {"name": "Base", "tier": "Standard"},
        "properties": {
            "futureProfile": {"deep": [{"er": 1}]},
            "dnsPrefix": "blue",
            "securityProfile": {"defender": {"securityMonitoring": {"enabled": True}}},
        },
    }
    azure.blue.authorized_ranges, azure.blue.tags = ["192.0.2.0/24"], {"team": "platform"}

    await (await azure.enable()).result()

    after = (await azure.get()).as_dict()
    assert after["sku"] == {"name": "Base", "tier": "Standard"}
    assert after["properties"]["futureProfile"] == {"deep": [{"er": 1}]}
    assert after["properties"]["dnsPrefix"] == "blue"
    assert after["properties"]["securityProfile"] == {
        "defender": {"securityMonitoring": {"enabled": True}},
        "workloadIdentity": {"enabled": True},
    }
    assert after["properties"]["apiServerAccessProfile"]["authorizedIPRanges"] == ["192.0.2.0/24"]
    assert after["properties"]["aadProfile"]["managed"] is True
    assert after["tags"] == {"team": "platform"}


async def test_what_is_left_out_is_gone(azure: Azure) -> None:
    azure.blue.rest = {"properties": {"futureProfile": {"on": True}}}
    azure.blue.authorized_ranges, azure.blue.tags = ["192.0.2.0/24"], {"team": "platform"}

    await (await azure.put({"location": "westeurope", "properties": {}})).result()

    after = (await azure.get()).as_dict()
    assert "futureProfile" not in after["properties"]
    assert after["properties"]["apiServerAccessProfile"]["authorizedIPRanges"] == []
    assert after["tags"] == {}


async def test_what_only_azure_writes_is_not_taken_from_a_caller(azure: Azure) -> None:
    body = {
        "location": "westeurope",
        "name": "green",
        "eTag": "mine",
        "properties": {"provisioningState": "Succeeded", "powerState": {"code": "Stopped"}, "fqdn": "elsewhere"},
    }

    await (await azure.put(body)).result()

    after = await azure.get()
    assert (after.name, after.power_state.code) == ("Blue", "Running")
    assert after.fqdn == "blue.hcp.westeurope.azmk8s.io"
    assert after["eTag"] != "mine"


async def test_an_old_etag_is_refused(azure: Azure) -> None:
    cluster = await azure.get()
    etag = cluster["eTag"]
    await (await azure.put(cluster)).result()

    with pytest.raises(ResourceModifiedError):
        await azure.put(cluster, etag=etag, match_condition=MatchConditions.IfNotModified)

    assert len(azure.arm.writes) == 1


async def test_the_end_of_an_update_is_a_change_too(azure: Azure) -> None:
    azure.arm.clusters.updating = timedelta(minutes=5)
    await azure.enable()
    during = await azure.get()
    azure.clock.advance(timedelta(minutes=5))

    refused = await _refused(azure, during, etag=during["eTag"], match_condition=MatchConditions.IfNotModified)

    assert refused == (412, "PreconditionFailed")


async def test_a_cluster_that_should_be_new_is_refused(azure: Azure) -> None:
    refused = await _refused(azure, await azure.get(), match_condition=MatchConditions.IfMissing)

    assert refused == (412, "PreconditionFailed")


async def test_a_second_update_waits_for_the_first(azure: Azure) -> None:
    azure.arm.clusters.updating = timedelta(minutes=5)
    await azure.enable()
    during = await azure.get()

    with pytest.raises(ResourceExistsError) as raised:
        await azure.put(during)
    azure.clock.advance(timedelta(minutes=5))
    await azure.put(await azure.get())

    assert raised.value.error is not None
    assert raised.value.error.code == "OperationNotAllowed"
    assert raised.value.error.message == (
        "Operation is not allowed: Another operation (Updating) is in progress, please wait for it to finish before "
        "starting a new operation. See https://aka.ms/aks-pending-operation for more details"
    )


@pytest.mark.parametrize("profile", [{"enabled": False}, None])
async def test_an_issuer_stays(azure: Azure, profile: dict[str, Any] | None) -> None:
    azure.blue.oidc_issuer, azure.blue.workload_identity = ISSUER, True
    cluster = await azure.get()
    cluster["properties"]["oidcIssuerProfile"] = profile

    assert await _refused(azure, cluster) == (400, "OIDCIssuerFeatureCannotBeDisabled")


async def test_workload_identity_needs_an_issuer(azure: Azure) -> None:
    cluster = await azure.get()
    cluster["properties"]["securityProfile"] = {"workloadIdentity": {"enabled": True}}

    assert await _refused(azure, cluster) == (400, "InvalidParameter")


async def test_a_stopped_cluster_is_not_updated(azure: Azure) -> None:
    azure.blue.power_state = "Stopped"

    assert await _refused(azure, await azure.get()) == (409, "OperationNotAllowed")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"properties": {}}, 400, "LocationRequired"),
        ({"location": "northeurope", "properties": {}}, 409, "InvalidResourceLocation"),
        ({"location": "westeurope"}, 400, "InvalidRequestContent"),
        ([], 400, "InvalidRequestContent"),
        (b"{", 400, "InvalidRequestContent"),
    ],
)
async def test_what_is_no_cluster_is_refused(azure: Azure, body: Any, status: int, code: str) -> None:
    assert (status, code) == await _refused(azure, body)


async def test_a_reader_changes_nothing(azure: Azure) -> None:
    _become(azure, READER)

    assert await _refused(azure, await azure.get()) == (403, "AuthorizationFailed")


async def test_who_may_write_may_not_yet_wait(azure: Azure) -> None:
    """Operations lie at the subscription, outside every resource group."""
    _become(azure, ONBOARDER, BLUE)

    with pytest.raises(HttpResponseError, match="locations/operations/read"):
        await (await azure.enable()).result()

    assert azure.arm.writes == [("PUT", BLUE)]


async def test_a_cluster_takes_twenty_updates_at_once_and_one_a_minute(azure: Azure) -> None:
    cluster = await azure.get()
    for _ in range(20):
        await azure.put(cluster)

    refused = await _refused(azure, cluster)
    azure.clock.advance(timedelta(minutes=1))
    await azure.put(cluster)

    assert refused == (429, "Throttled")


def _become(azure: Azure, actions: frozenset[str], scope: str = f"/subscriptions/{SUBSCRIPTION}") -> None:
    azure.arm.unassign(azure.caller.principal_id, f"/subscriptions/{SUBSCRIPTION}", ONBOARDER)
    azure.arm.assign(azure.caller.principal_id, scope, actions)
