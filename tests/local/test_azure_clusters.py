"""What the app makes of Azure Resource Manager's answers, over sockets and with an identity of the endpoint."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from aiohttp import web
from azure.identity.aio import ManagedIdentityCredential

from local.azure.arm import CLUSTER_USER, READER, Arm, ManagedCluster
from local.azure.entra import Entra, Identity, IdentityEndpoint
from local.clock import Clock
from local.serving import Authority, Fault, Faults, Journal, Server
from pullkeeper.azure.arm import Arm as AppArm
from pullkeeper.azure.clusters import AzureClusters, Located
from pullkeeper.azure.entra import Entra as AppIdentity
from pullkeeper.errors import ArmDenied, ArmThrottled, ClusterGone, ClusterStopped, EntraDenied, InternalError
from pullkeeper.model import ClusterId
from pullkeeper.tokens import ClientCertificate

GROUP = "/subscriptions/5eed5eed-0000-4000-8000-000000000001/resourceGroups/Platform"
BLUE = f"{GROUP}/providers/Microsoft.ContainerService/managedClusters/Blue"
SERVER = "https://blue-dns.hcp.westeurope.azmk8s.io:443"


@dataclass(frozen=True, slots=True)
class Azure:
    clock: Clock
    identity: Identity
    arm: Arm
    blue: ManagedCluster
    faults: Faults
    journal: Journal
    clusters: AzureClusters

    async def locate(self, resource_id: str = BLUE) -> Located:
        return await self.clusters.locate(ClusterId.parse(resource_id))


@pytest.fixture
async def azure(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> AsyncIterator[Azure]:
    clock, faults, journal = Clock(), Faults(), Journal()
    entra = Entra(clock)
    identity = entra.add_identity("pullkeeper")
    endpoint = IdentityEndpoint(entra, clock, [identity])
    application = web.Application()
    application.add_routes(endpoint.routes())
    arm = Arm(entra, clock, middlewares=[journal.middleware, faults.middleware])
    blue = arm.add_cluster(ManagedCluster(BLUE, SERVER, "the CA"))
    arm.assign(identity.principal_id, GROUP, CLUSTER_USER)
    identities, server = Server(application, authority=None), Server(arm.application, authority=authority)
    await identities.start()
    await server.start()
    for name, value in endpoint.environment(identities.url).items():
        monkeypatch.setenv(name, value)
    async with ManagedIdentityCredential(client_id=identity.client_id) as credential:
        clusters = AzureClusters(AppArm(AppIdentity(lambda: credential), server.url), clock)
        yield Azure(clock, identity, arm, blue, faults, journal, clusters)
    await server.stop()
    await identities.stop()


async def test_a_cluster_with_entra_is_an_address_and_a_ca(azure: Azure) -> None:
    located = await azure.locate()

    told = located.endpoint
    assert (told.server, told.ca, told.local_accounts) == (SERVER, "the CA", False)
    assert timedelta() <= azure.clock() - told.read_at < timedelta(minutes=1)
    assert located.certificate is None


async def test_a_cluster_with_local_accounts_comes_with_its_certificate(azure: Azure) -> None:
    azure.blue.client_certificate, azure.blue.client_key = "a certificate", "a key"

    located = await azure.locate()

    assert located.endpoint.local_accounts is True
    assert ClientCertificate("a certificate", "a key") == located.certificate


async def test_a_stopped_cluster_is_not_asked_for_its_kubeconfig(azure: Azure) -> None:
    azure.blue.power_state = "Stopped"

    with pytest.raises(ClusterStopped):
        await azure.locate()

    assert azure.journal.count("GET") == 1
    assert azure.journal.count("POST") == 0


@pytest.mark.parametrize("what", ["cluster", "group", "subscription"])
async def test_what_is_gone_is_gone_at_every_level(azure: Azure, what: str) -> None:
    """The group and the subscription live on where another cluster is in them."""
    elsewhere = {
        "cluster": BLUE.replace("Blue", "green"),
        "group": BLUE.replace("Platform", "Other"),
        "subscription": BLUE.replace("5eed5eed", "0ddba115"),
    }[what]
    azure.arm.add_cluster(ManagedCluster(elsewhere, SERVER, "the CA"))
    azure.arm.remove_cluster(BLUE)

    with pytest.raises(ClusterGone) as raised:
        await azure.locate()

    assert str(ClusterId.parse(BLUE)) == raised.value.context["cluster"]


async def test_a_cluster_that_goes_between_the_two_calls_is_gone(azure: Azure) -> None:
    azure.faults.add(
        Fault(method="POST", status=404, body='{"error":{"code":"ResourceNotFound","message":"was not found"}}')
    )

    with pytest.raises(ClusterGone, match="was not found"):
        await azure.locate()


async def test_without_a_role_the_refusal_names_who_and_what(azure: Azure) -> None:
    azure.arm.unassign(azure.identity.principal_id, GROUP, CLUSTER_USER)

    with pytest.raises(ArmDenied) as raised:
        await azure.locate()

    assert f"object id '{azure.identity.principal_id}'" in raised.value.detail
    assert "managedClusters/read'" in raised.value.detail


async def test_a_reader_may_not_have_the_kubeconfig(azure: Azure) -> None:
    azure.arm.unassign(azure.identity.principal_id, GROUP, CLUSTER_USER)
    azure.arm.assign(azure.identity.principal_id, GROUP, READER)

    with pytest.raises(ArmDenied, match="listClusterUserCredential/action"):
        await azure.locate()


async def test_a_token_that_has_expired_is_denied(azure: Azure) -> None:
    """azure-identity goes by this machine's clock and keeps the token; Azure goes by the shared one."""
    await azure.locate()
    azure.clock.advance(timedelta(hours=25))

    with pytest.raises(ArmDenied, match="ExpiredAuthenticationToken"):
        await azure.locate()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_full_bucket_is_throttling_and_left_alone_for_as_long_as_it_says(azure: Azure, method: str) -> None:
    limit = azure.arm.reads if method == "GET" else azure.arm.others
    limit.burst = 0

    with pytest.raises(ArmThrottled, match="request limit has been exceeded") as raised:
        await azure.locate()

    assert raised.value.retryable is True
    statuses = [seen.status for seen in azure.journal.requests if seen.method == method]
    assert statuses == [429]
    assert raised.value.retry_after


async def test_a_broken_connection_is_worth_another_try(azure: Azure) -> None:
    azure.faults.add(Fault(drop=True))

    with pytest.raises(ArmThrottled) as raised:
        await azure.locate()

    assert raised.value.retryable is True


async def test_silence_ends_in_time(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pullkeeper.azure.arm.TIMEOUT", 0.2)
    azure.faults.add(Fault(hang=True))

    with pytest.raises(ArmThrottled, match="TimeoutError"):
        await azure.locate()


async def test_an_answer_that_is_no_json_makes_no_sense(azure: Azure) -> None:
    azure.faults.add(Fault(status=200, body="<html>", times=1))

    with pytest.raises(ArmThrottled):
        await azure.locate()


async def test_a_call_that_azure_does_not_understand_is_no_throttling(azure: Azure) -> None:
    body = '{"error":{"code":"InvalidApiVersionParameter","message":"The api-version is invalid."}}'
    azure.faults.add(Fault(status=400, body=body))

    with pytest.raises(InternalError, match="api-version is invalid"):
        await azure.locate()


async def test_trouble_with_the_identity_is_not_blamed_on_azure(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "another")
    async with ManagedIdentityCredential() as credential:
        clusters = AzureClusters(AppArm(AppIdentity(lambda: credential), "https://127.0.0.1:1"), azure.clock)

        with pytest.raises(EntraDenied):
            await clusters.locate(ClusterId.parse(BLUE))


@pytest.mark.parametrize("kubeconfig", ["", "bm90OiBhIGt1YmVjb25maWc=", "LS0tIFs="])
async def test_a_kubeconfig_of_unknown_form_is_not_quoted(azure: Azure, kubeconfig: str) -> None:
    """Nothing, YAML of another kind, and no YAML at all: what is in it may be a key."""
    body = f'{{"kubeconfigs":[{{"name":"clusterUser","value":"{kubeconfig}"}}]}}'
    azure.faults.add(Fault(method="POST", status=200, body=body))

    with pytest.raises(InternalError, match=r"unknown form \(\w+\)$") as raised:
        await azure.locate()

    assert raised.value.__cause__ is None
