"""The job that onboarding creates in a real cluster, with the trust that onboarding configured, and its removal."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.auth import identity_pool
from google.auth.exceptions import OAuthError
from google.auth.transport.requests import Request

from local.azure.arm import ONBOARDER
from local.azure.entra import EXCHANGE
from local.azure.managed_identities import IDENTITIES
from local.azurite import Azurite
from local.cloud import GROUP, SUBSCRIPTION, LocalCluster
from pullkeeper.cluster.in_cluster import Chain
from pullkeeper.onboarding.documents import Handover, Operation
from pullkeeper.onboarding.phases import pull_secret as pull_secret_phase
from pullkeeper.onboarding.work import Work
from tests.apiserver.running import Running
from tests.in_cluster.conftest import ACCOUNT, Place
from tests.in_cluster.kubelet import Finished, Kubelet
from tests.onboarding.conftest import Onboarding, describe
from tests.world import World

pytestmark = [pytest.mark.real, pytest.mark.servers]


@dataclass(frozen=True, slots=True)
class Owner:
    """Onboards the cluster with its own refresher, and runs the job on a node."""

    place: Place
    onboarding: Onboarding
    cluster: LocalCluster

    async def onboard(self, chain: Chain) -> Operation:
        target = {"namespace": self.place.namespace, "serviceAccounts": [ACCOUNT]}
        wanted = {"refresher": "in-cluster", "chain": chain, "targets": [target], "identity": self.place.namespace}
        ended = await self.onboarding.run(
            {"cluster": str(self.cluster.id), "hub": self.place.namespace.removeprefix("t-"), **wanted}
        )
        assert ended.status == "Succeeded", describe(ended)
        return ended

    async def job(self) -> dict[str, Any]:
        path = f"/apis/batch/v1/namespaces/{self.place.namespace}/cronjobs/refresh-ar-pull-secret"
        return (await self.place.admin.get(path)).body

    @property
    def node(self) -> Kubelet:
        return Kubelet(self.place.admin, self.place.root, {"SSL_CERT_FILE": str(self.place.site.cloud.trust_file)})

    async def run(self) -> Finished:
        ended = await self.node.run(await self.job())
        self.place.assert_no_token(ended)
        return ended


@pytest_asyncio.fixture(loop_scope="session")
async def owner(
    request: pytest.FixtureRequest, place: Place, azurite: Azurite, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Owner]:
    cloud, server = place.site.cloud, place.site.server
    world = World(cloud, azurite.account(request.node.nodeid), cloud.clock, monkeypatch)
    world.settings["ONBOARDING_SCOPES"] = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    cloud.arm.assign(cloud.app.principal_id, f"/subscriptions/{SUBSCRIPTION}", ONBOARDER)
    running = Running.of(server, place.namespace)
    onboarding = Onboarding(world)
    cluster = await onboarding.cluster(place.namespace, server=running)
    onboarding.azure(cluster).oidc_issuer = server.url
    yield Owner(place, onboarding, cluster)
    await world.services.close()


def handover(ended: Operation) -> Handover:
    assert ended.result is not None
    assert ended.result.handover is not None
    return ended.result.handover


async def test_the_entra_chain_writes_a_secret_that_pulls(owner: Owner) -> None:
    """Entra checks the assertion against the cluster's keys and the federated credential that onboarding created; the
    publisher trusts the subject in the handover.
    """
    received = handover(await owner.onboard("entra"))
    cloud = owner.place.site.cloud
    group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    identity = cloud.arm.identities.find(f"{group}/providers/{IDENTITIES}/{owner.place.namespace}")
    assert identity is not None
    assert (received.client_id, received.subject) == (
        identity.service_principal.client_id,
        identity.service_principal.principal_id,
    )
    owner.place.allow(received.subject)

    ended = await owner.run()

    assert ended.code == 0, ended.output
    assert await owner.place.can_pull()
    [written] = cloud.arm.federated_credentials.find_all(identity)
    cloud.arm.federated_credentials.remove(identity, written.name)
    refused = await owner.run()
    assert refused.code == 2
    assert "AADSTS70021" in refused.output
    assert written.trust.subject == owner.place.subject


async def test_the_kubernetes_chain_writes_a_secret_that_pulls(owner: Owner) -> None:
    received = handover(await owner.onboard("kubernetes"))
    assert (received.issuer, received.subject) == (owner.place.site.cluster.url, owner.place.subject)
    await owner.place.trust_cluster()
    assert owner.place.hub.provider.issuer == received.issuer
    assert owner.place.hub.provider.allowed_audiences == {received.audience}

    ended = await owner.run()

    assert ended.code == 0, ended.output
    assert await owner.place.can_pull()


@pytest.mark.parametrize("chain", ["entra", "kubernetes"])
async def test_the_credential_configuration_says_whether_google_accepts_a_pods_token(
    owner: Owner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chain: Chain
) -> None:
    """As Google's library uses it in a pod."""
    received = handover(await owner.onboard(chain))
    place = owner.place
    if chain == "kubernetes":
        await place.trust_cluster()
    else:
        place.allow(received.subject)
    accounts = f"/api/v1/namespaces/{place.namespace}/serviceaccounts/{ACCOUNT}/token"
    issued = await place.admin.post(accounts, {"spec": {"audiences": [EXCHANGE], "expirationSeconds": 600}})
    (tmp_path / "token").write_text(issued.body["status"]["token"])
    found = (await place.admin.get(f"/api/v1/namespaces/{place.namespace}/configmaps/gcp-credential-config")).body
    document = json.loads(found["data"]["credential-config.json"])
    document["credential_source"]["file"] = str(tmp_path / "token")
    credentials = identity_pool.Credentials.from_info(document, scopes=[place.parsed_hub.scope])
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(place.site.cloud.trust_file))
    description = found["metadata"]["annotations"]["kubernetes.io/description"]

    if chain == "entra":
        with pytest.raises(OAuthError, match="The issuer in ID Token"):
            await asyncio.to_thread(credentials.refresh, Request())
        assert description.startswith("Google refuses this configuration as it is")
    else:
        await asyncio.to_thread(credentials.refresh, Request())
        assert str(credentials.token).startswith("ya29.")
        assert f"run as {ACCOUNT}. Google accepts their tokens" in description


async def test_a_run_during_offboarding_does_not_create_the_secret_again(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pod has all its files before, and writes just after the secret was deleted."""
    owner.place.allow(handover(await owner.onboard("entra")).subject)
    assert (await owner.run()).code == 0
    job, late = await owner.job(), list[Finished]()
    await owner.node.prepare(job)
    undo = pull_secret_phase.undo

    async def undo_and_run(work: Work) -> str:
        detail = await undo(work)
        if not late:
            late.append(await owner.node.start(job))
        return detail

    monkeypatch.setattr(pull_secret_phase, "undo", undo_and_run)
    ended = await owner.onboarding.offboard(owner.cluster)

    assert ended.status == "Succeeded", describe(ended)
    assert [one.code for one in late] == [2]
    assert (
        f'cannot patch resource "secrets" in API group "" in the namespace "{owner.place.namespace}"' in late[0].output
    )
    assert (await owner.place.secret())["code"] == 404
    assert (await owner.job())["code"] == 404
