"""What the app makes of Azure Resource Manager's responses, as an identity of the platform's endpoint."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from aiohttp import web
from azure.identity.aio import ManagedIdentityCredential

from local.azure.arm import CLUSTER_USER, READER
from local.azure.entra import IdentityEndpoint
from local.azure.managed_cluster import ManagedCluster
from local.serving import Fault, Server
from pullkeeper.azure.arm import Arm as AppArm
from pullkeeper.azure.clusters import AzureClusters, Located
from pullkeeper.azure.entra import Entra as AppIdentity
from pullkeeper.errors import ArmDenied, ArmThrottled, ClusterGone, ClusterStopped, InternalError
from pullkeeper.model import ClusterId
from pullkeeper.tokens import ClientCertificate
from tests.local.conftest import API_SERVER, BLUE, Azure


@dataclass(frozen=True, slots=True)
class App:
    clusters: AzureClusters

    async def locate(self) -> Located:
        return await self.clusters.locate(ClusterId.parse(BLUE))


@pytest.fixture
async def app(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    azure.assign(CLUSTER_USER)
    endpoint = IdentityEndpoint(azure.entra, azure.clock, [azure.caller])
    application = web.Application()
    application.add_routes(endpoint.routes())
    server = Server(application, authority=None)
    await server.start()
    for name, value in endpoint.environment(server.url).items():
        monkeypatch.setenv(name, value)
    async with ManagedIdentityCredential(client_id=azure.caller.client_id) as credential:
        arm = AppArm(AppIdentity(lambda: credential), azure.url)
        yield App(AzureClusters(arm, azure.clock))
        await arm.close()
    await server.stop()


@pytest.mark.parametrize("end", ["", "/"])
async def test_a_cluster_with_entra_is_located_by_address_and_ca(azure: Azure, app: App, end: str) -> None:
    azure.blue.server += end

    located = await app.locate()

    endpoint = located.endpoint
    assert (endpoint.server, endpoint.ca, endpoint.local_accounts) == (API_SERVER, "the CA", False)
    assert timedelta() <= azure.clock() - endpoint.read_at < timedelta(minutes=1)
    assert located.certificate is None


async def test_a_cluster_with_local_accounts_has_a_client_certificate(azure: Azure, app: App) -> None:
    azure.blue.client_certificate, azure.blue.client_key = "a certificate", "a key"

    located = await app.locate()

    assert located.endpoint.local_accounts is True
    assert ClientCertificate("a certificate", "a key") == located.certificate


@pytest.mark.parametrize(
    ("private", "public", "server"),
    [
        pytest.param("localhost", "public", "https://localhost:443", id="the private name resolves here"),
        pytest.param("blue.privatelink.invalid", "public", API_SERVER, id="it does not, and there is a public one"),
        pytest.param("blue.privatelink.invalid", None, "https://blue.privatelink.invalid:443", id="there is none"),
    ],
)
async def test_a_private_cluster_is_located_by_the_name_that_resolves(
    azure: Azure, app: App, private: str, public: str | None, server: str
) -> None:
    azure.blue.private_server, azure.blue.public_fqdn = f"https://{private}:443", bool(public)

    assert (await app.locate()).endpoint.server == server


async def test_the_kubeconfig_of_a_stopped_cluster_is_not_requested(azure: Azure, app: App) -> None:
    azure.blue.power_state = "Stopped"

    with pytest.raises(ClusterStopped):
        await app.locate()

    assert azure.journal.count("GET") == 1
    assert azure.journal.count("POST") == 0


@pytest.mark.parametrize("level", ["cluster", "group", "subscription"])
async def test_a_missing_cluster_group_or_subscription_means_cluster_gone(azure: Azure, app: App, level: str) -> None:
    """A group or a subscription exists as long as it holds a cluster."""
    elsewhere = {
        "cluster": BLUE.replace("Blue", "green"),
        "group": BLUE.replace("Platform", "Other"),
        "subscription": BLUE.replace("5eed5eed", "0ddba115"),
    }[level]
    azure.arm.clusters.add(ManagedCluster(elsewhere, API_SERVER, "the CA"))
    azure.arm.clusters.remove(BLUE)

    with pytest.raises(ClusterGone) as raised:
        await app.locate()

    assert str(ClusterId.parse(BLUE)) == raised.value.context["cluster"]


async def test_a_cluster_deleted_between_the_two_calls_is_gone(azure: Azure, app: App) -> None:
    azure.faults.add(
        Fault(method="POST", status=404, body='{"error":{"code":"ResourceNotFound","message":"was not found"}}')
    )

    with pytest.raises(ClusterGone, match="was not found"):
        await app.locate()


async def test_without_a_role_the_error_names_caller_and_action(azure: Azure, app: App) -> None:
    azure.assign(frozenset())

    with pytest.raises(ArmDenied) as raised:
        await app.locate()

    assert f"object id '{azure.caller.principal_id}'" in raised.value.detail
    assert "managedClusters/read'" in raised.value.detail


async def test_a_reader_may_not_get_the_kubeconfig(azure: Azure, app: App) -> None:
    azure.assign(READER)

    with pytest.raises(ArmDenied, match="listClusterUserCredential/action"):
        await app.locate()


async def test_an_expired_token_is_denied(azure: Azure, app: App) -> None:
    """azure-identity caches the token by this machine's clock; Azure compares it with the shared one."""
    await app.locate()
    azure.clock.advance(timedelta(hours=25))

    with pytest.raises(ArmDenied, match="ExpiredAuthenticationToken"):
        await app.locate()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_throttling_is_not_retried_and_its_retry_after_is_kept(azure: Azure, app: App, method: str) -> None:
    limit = azure.arm.clusters.reads if method == "GET" else azure.arm.clusters.others
    limit.burst = 0

    with pytest.raises(ArmThrottled, match="request limit has been exceeded") as raised:
        await app.locate()

    assert raised.value.retryable is True
    statuses = [seen.status for seen in azure.journal.requests if seen.method == method]
    assert statuses == [429]
    assert raised.value.retry_after


@pytest.mark.parametrize("kubeconfig", ["", "bm90OiBhIGt1YmVjb25maWc=", "LS0tIFs="])
async def test_a_kubeconfig_of_unknown_form_is_not_quoted(azure: Azure, app: App, kubeconfig: str) -> None:
    """Nothing, other YAML, and no YAML: an unknown document may hold a key."""
    body = f'{{"kubeconfigs":[{{"name":"clusterUser","value":"{kubeconfig}"}}]}}'
    azure.faults.add(Fault(method="POST", status=200, body=body))

    with pytest.raises(InternalError, match=r"unknown form \(\w+\)$") as raised:
        await app.locate()

    assert raised.value.__cause__ is None
