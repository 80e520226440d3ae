"""Azure Resource Manager's stand-in, asked by Microsoft's own clients."""

import base64
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.identity.aio import ManagedIdentityCredential
from azure.mgmt.containerservice.aio import ContainerServiceClient

from local.azure.arm import CLUSTER_USER, READER, Arm, Limit, ManagedCluster
from local.azure.entra import AKS, ARM, Entra, Identity, IdentityEndpoint
from local.clock import Clock
from local.serving import Authority, Server

SUBSCRIPTION = "5eed5eed-0000-4000-8000-000000000001"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/Platform"
CLUSTERS = f"{GROUP}/providers/Microsoft.ContainerService/managedClusters"
SERVER = "https://blue-dns.hcp.westeurope.azmk8s.io:443"
VERSION = "api-version=2026-08-01"


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    code: str
    message: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Azure:
    clock: Clock
    entra: Entra
    identity: Identity
    arm: Arm
    blue: ManagedCluster
    client: ContainerServiceClient
    url: str

    async def call(self, path: str, token: str | None = None, method: str = "GET") -> "Refusal":
        """A call that is refused; the token is for the resource manager unless one is given."""
        token = self.entra.token(self.identity, ARM) if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, self.url + path) as answer,
        ):
            error = (await answer.json())["error"]
            return Refusal(answer.status, error["code"], error["message"], answer.headers)


@pytest.fixture
async def azure(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> AsyncIterator[Azure]:
    clock = Clock()
    entra = Entra(clock)
    identity = entra.add_identity("pullkeeper")
    endpoint = IdentityEndpoint(entra, clock, [identity])
    application = web.Application()
    application.add_routes(endpoint.routes())
    arm = Arm(entra, clock)
    blue = arm.add_cluster(ManagedCluster(f"{CLUSTERS}/Blue", SERVER, "the CA"))
    arm.assign(identity.principal_id, GROUP, CLUSTER_USER)
    identities, server = Server(application, authority=None), Server(arm.application, authority=authority)
    await identities.start()
    await server.start()
    for name, value in endpoint.environment(identities.url).items():
        monkeypatch.setenv(name, value)
    async with (
        ManagedIdentityCredential(client_id=identity.client_id) as credential,
        ContainerServiceClient(credential, SUBSCRIPTION, base_url=server.url, retry_total=0) as client,
    ):
        yield Azure(clock, entra, identity, arm, blue, client, server.url)
    await server.stop()
    await identities.stop()


async def test_a_cluster_reads_as_azure_writes_it(azure: Azure) -> None:
    found = await azure.client.managed_clusters.get("Platform", "Blue")

    assert (found.name, found.location) == ("Blue", "westeurope")
    assert found.power_state is not None
    assert found.power_state.code == "Running"
    assert found.aad_profile is not None
    assert found.aad_profile.tenant_id == azure.entra.tenant
    assert found.oidc_issuer_profile is not None
    assert (found.oidc_issuer_profile.enabled, found.oidc_issuer_profile.issuer_url) == (False, None)


async def test_a_cluster_with_everything_on_says_so(azure: Azure) -> None:
    azure.blue.oidc_issuer, azure.blue.workload_identity = "https://oidc.example/1/", True

    found = await azure.client.managed_clusters.get("Platform", "Blue")

    assert found.oidc_issuer_profile is not None
    assert found.oidc_issuer_profile.issuer_url == "https://oidc.example/1/"
    assert found.security_profile is not None
    assert found.security_profile.workload_identity is not None
    assert found.security_profile.workload_identity.enabled is True


async def test_ids_are_compared_without_regard_to_case(azure: Azure) -> None:
    assert (await azure.client.managed_clusters.get("PLATFORM", "blue")).name == "Blue"


async def test_a_stopped_cluster_says_so_and_still_gives_its_kubeconfig(azure: Azure) -> None:
    azure.blue.power_state = "Stopped"

    found = await azure.client.managed_clusters.get("Platform", "Blue")

    assert found.power_state is not None
    assert found.power_state.code == "Stopped"
    assert (await _user(azure, "Blue"))["exec"]["command"] == "kubelogin"


async def test_the_kubeconfig_of_a_cluster_with_entra_asks_kubelogin_for_a_token(azure: Azure) -> None:
    arguments = (await _user(azure, "Blue"))["exec"]["args"]

    assert arguments[0] == "get-token"
    assert arguments[arguments.index("--server-id") + 1] == AKS
    assert arguments[arguments.index("--tenant-id") + 1] == azure.entra.tenant


async def test_the_older_form_of_the_kubeconfig_names_an_auth_provider(azure: Azure) -> None:
    user = await _user(azure, "Blue", format="azure")

    assert user["auth-provider"]["config"]["apiserver-id"] == AKS


async def test_the_kubeconfig_of_a_cluster_with_local_accounts_holds_a_certificate(azure: Azure) -> None:
    azure.arm.add_cluster(ManagedCluster(f"{CLUSTERS}/old", SERVER, "the CA", "a certificate", "a key"))

    user = await _user(azure, "old")

    assert {"client-certificate-data", "client-key-data", "token"} == set(user)
    assert base64.b64decode(user["client-certificate-data"]) == b"a certificate"
    assert (await azure.client.managed_clusters.get("Platform", "old")).aad_profile is None


async def test_without_a_role_the_answer_names_action_and_scope(azure: Azure) -> None:
    azure.arm.unassign(azure.identity.principal_id, GROUP, CLUSTER_USER)
    who = azure.identity

    with pytest.raises(HttpResponseError) as raised:
        await azure.client.managed_clusters.get("Platform", "Blue")

    assert raised.value.status_code == 403
    assert raised.value.error is not None
    assert raised.value.error.code == "AuthorizationFailed"
    assert raised.value.error.message == (
        f"The client '{who.client_id}' with object id '{who.principal_id}' does not have authorization to perform "
        f"action 'Microsoft.ContainerService/managedClusters/read' over scope '{CLUSTERS}/Blue' or the scope is "
        "invalid. If access was recently granted, please refresh your credentials."
    )


async def test_reading_a_cluster_is_not_yet_reading_its_credentials(azure: Azure) -> None:
    azure.arm.unassign(azure.identity.principal_id, GROUP, CLUSTER_USER)
    azure.arm.assign(azure.identity.principal_id, f"/subscriptions/{SUBSCRIPTION}", READER)

    await azure.client.managed_clusters.get("Platform", "Blue")

    with pytest.raises(HttpResponseError, match="listClusterUserCredential/action"):
        await azure.client.managed_clusters.list_cluster_user_credentials("Platform", "Blue")


@pytest.mark.parametrize("scope", [f"{CLUSTERS}/Bl", f"{CLUSTERS}/green", GROUP.removesuffix("form")])
async def test_a_role_somewhere_else_does_not_count(azure: Azure, scope: str) -> None:
    azure.arm.unassign(azure.identity.principal_id, GROUP, CLUSTER_USER)
    azure.arm.assign(azure.identity.principal_id, scope, CLUSTER_USER)

    assert (await azure.call(f"{CLUSTERS}/Blue?{VERSION}")).status == 403


async def test_a_missing_cluster_is_told_to_those_alone_who_might_see_it(azure: Azure) -> None:
    with pytest.raises(ResourceNotFoundError) as raised:
        await azure.client.managed_clusters.get("Platform", "green")
    azure.arm.unassign(azure.identity.principal_id, GROUP, CLUSTER_USER)
    refused = await azure.call(f"{CLUSTERS}/green?{VERSION}")

    assert raised.value.error is not None
    assert raised.value.error.message == (
        "The Resource 'Microsoft.ContainerService/managedClusters/green' under resource group 'Platform' was not "
        "found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"
    )
    assert refused.status == 403


async def test_a_removed_cluster_is_gone_and_so_is_its_group(azure: Azure) -> None:
    azure.arm.add_cluster(ManagedCluster(f"{CLUSTERS}/Blue".replace("Platform", "Other"), SERVER, "the CA"))
    azure.arm.remove_cluster(f"{CLUSTERS}/BLUE")

    refused = await azure.call(f"{CLUSTERS}/Blue?{VERSION}")

    assert (refused.status, refused.code) == (404, "ResourceGroupNotFound")
    assert refused.message == "Resource group 'Platform' could not be found."


async def test_a_foreign_subscription_does_not_exist(azure: Azure) -> None:
    other = SUBSCRIPTION.replace("1", "2")

    refused = await azure.call(f"{CLUSTERS}/Blue?{VERSION}".replace(SUBSCRIPTION, other))

    assert (refused.status, refused.code) == (404, "SubscriptionNotFound")
    assert refused.message == f"The subscription '{other}' could not be found."


@pytest.mark.parametrize(
    ("query", "code"),
    [("", "MissingApiVersionParameter"), ("?api-version=2020-01-01", "InvalidApiVersionParameter")],
)
async def test_every_call_needs_a_version_that_is_served(azure: Azure, query: str, code: str) -> None:
    refused = await azure.call(f"{CLUSTERS}/Blue{query}")

    assert (refused.status, refused.code) == (400, code)


@pytest.mark.parametrize(
    "path", [f"{CLUSTERS}/Blue/listClusterAdminCredential", f"{CLUSTERS}/a/b/c", GROUP, f"{CLUSTERS}/Blue%2fx"]
)
async def test_what_is_not_served_is_refused(azure: Azure, path: str) -> None:
    assert (await azure.call(f"{path}?{VERSION}", method="POST")).status == 400


async def test_a_call_without_a_token_is_turned_away(azure: Azure) -> None:
    refused = await azure.call(f"{CLUSTERS}/Blue?{VERSION}", token="")

    assert (refused.status, refused.code) == (401, "AuthenticationFailed")


async def test_a_token_for_another_resource_is_turned_away(azure: Azure) -> None:
    token = azure.entra.token(azure.identity, AKS)

    refused = await azure.call(f"{CLUSTERS}/Blue?{VERSION}", token)

    assert (refused.status, refused.code) == (401, "InvalidAuthenticationTokenAudience")
    assert f"wrong audience or resource '{AKS}'" in refused.message


async def test_an_expired_token_is_turned_away(azure: Azure) -> None:
    token = azure.entra.token(azure.identity, ARM, timedelta(hours=1))
    azure.clock.advance(timedelta(hours=1, seconds=1))

    refused = await azure.call(f"{CLUSTERS}/Blue?{VERSION}", token)

    assert (refused.status, refused.code) == (401, "ExpiredAuthenticationToken")


@pytest.mark.parametrize("forged", [True, False])
async def test_a_token_that_the_tenant_did_not_sign_is_turned_away(azure: Azure, *, forged: bool) -> None:
    stranger = Entra(azure.clock)
    token = stranger.token(azure.identity, ARM) if forged else "not a token"

    refused = await azure.call(f"{CLUSTERS}/Blue?{VERSION}", token)

    assert (refused.status, refused.code) == (401, "InvalidAuthenticationToken")


async def test_the_sdk_takes_a_401_for_what_it_is(azure: Azure) -> None:
    """azure-identity goes by this machine's clock, so it does not see that its token is a day old."""
    await azure.client.managed_clusters.get("Platform", "Blue")
    azure.clock.advance(timedelta(hours=25))

    with pytest.raises(ClientAuthenticationError, match="ExpiredAuthenticationToken"):
        await azure.client.managed_clusters.get("Platform", "Blue")


async def test_reads_of_one_cluster_are_limited_and_refill(azure: Azure) -> None:
    """By the shared clock; other clusters have buckets of their own."""
    green = azure.arm.add_cluster(ManagedCluster(f"{CLUSTERS}/green", SERVER, "the CA"))
    azure.arm.reads.burst, azure.arm.reads.refill = 3, timedelta(minutes=1)
    for _ in range(3):
        await azure.client.managed_clusters.get("Platform", "Blue")

    with pytest.raises(HttpResponseError) as raised:
        await azure.client.managed_clusters.get("platform", "BLUE")
    refused = await azure.call(f"{CLUSTERS}/Blue?{VERSION}")
    await azure.client.managed_clusters.get("Platform", green.name)
    azure.clock.advance(timedelta(minutes=1))
    await azure.client.managed_clusters.get("Platform", "Blue")

    assert raised.value.status_code == 429
    assert raised.value.error is not None
    assert raised.value.error.code == "Throttled"
    assert refused.status == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    with pytest.raises(HttpResponseError):
        await azure.client.managed_clusters.get("Platform", "Blue")


def test_aks_lets_sixty_calls_through_at_once_and_one_a_second_after_that() -> None:
    now, limit = datetime.now(UTC), Limit(60)

    waits = [limit.take("blue", now) for _ in range(62)]
    later = limit.take("blue", now + timedelta(seconds=1))

    second = timedelta(seconds=1)
    assert [timedelta()] * 60 + [second, second] == waits
    assert timedelta() == later


async def test_user_credentials_of_a_region_share_one_limit(azure: Azure) -> None:
    azure.arm.add_cluster(ManagedCluster(f"{CLUSTERS}/green", SERVER, "the CA"))
    azure.arm.add_cluster(ManagedCluster(f"{CLUSTERS}/away", SERVER, "the CA", location="northeurope"))
    azure.arm.others.burst = 1
    await _user(azure, "Blue")

    await _user(azure, "away")

    with pytest.raises(HttpResponseError, match="ListManagedClusterUserCredentialHandler"):
        await _user(azure, "green")


async def _user(azure: Azure, name: str, **options: Any) -> dict[str, Any]:
    """The one user of the kubeconfig, whose cluster is the one asked for."""
    given = await azure.client.managed_clusters.list_cluster_user_credentials("Platform", name, **options)
    assert given.kubeconfigs is not None
    assert given.kubeconfigs[0].value is not None
    kubeconfig = yaml.safe_load(given.kubeconfigs[0].value)
    assert kubeconfig["clusters"][0]["cluster"]["server"] == SERVER
    user: dict[str, Any] = kubeconfig["users"][0]["user"]
    return user
