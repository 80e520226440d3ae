"""A real API server whose issuer the local Entra can reach, and one namespace, identity and hub per test."""

import json
import uuid
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from yarl import URL

from local import pull_check
from local.azure.assertions import FederatedCredential
from local.azure.entra import EXCHANGE, Identity
from local.azure.managed_identities import IDENTITIES, ManagedIdentity
from local.clock import Clock
from local.cloud import GROUP, SUBSCRIPTION, Cloud, LocalHub
from local.kubernetes.apiserver import Etcd, Issuer, RealApiServer
from local.serving import Authority, Faults
from pullkeeper.clouds import PUBLIC
from pullkeeper.cluster import manifests
from pullkeeper.cluster.in_cluster import Chain, build_refresher
from pullkeeper.model import Target
from pullkeeper.publisher.hub import Hub
from tests.apiserver import at_hand
from tests.contract.cluster import Cluster, connected
from tests.contract.conversation import Answer, Caller, Json, until
from tests.in_cluster.kubelet import Finished, Kubelet

HERE = Path(__file__).parent
ACCOUNT = "deepintshield-sa"
_PLURALS = {"Namespace": "namespaces", "ConfigMap": "configmaps", "CronJob": "cronjobs"}


def pytest_runtest_setup(item: pytest.Item) -> None:
    if "real" in item.keywords:
        at_hand.kubernetes()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE and "real" in item.keywords:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@dataclass(frozen=True, slots=True)
class Site:
    """The local cloud, and the cluster whose issuer it can read."""

    cloud: Cloud
    server: RealApiServer
    cluster: Cluster
    entra_faults: Faults


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def site(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    clock = Clock()
    cloud = Cloud(clock, authority)
    faults = Faults()
    cloud.entra.application.middlewares.append(faults.middleware)
    async with AsyncExitStack() as opened:
        await opened.enter_async_context(cloud)
        etcd = Etcd(at_hand.kubernetes())
        await etcd.start()
        opened.push_async_callback(etcd.stop)
        issuer = Issuer(cloud.entra.issuer_v1, cloud.issuer_discovery, authority.pem)
        server = RealApiServer(
            "in-cluster", etcd=etcd, issuer=issuer, flags=_signing_flags(tmp_path_factory.mktemp("keys"))
        )
        await server.start()
        opened.push_async_callback(server.stop)
        cloud.assertions.trust(server.ca_pem)
        cluster = await opened.enter_async_context(connected(server, cloud.entra))
        await _publish_issuer(cluster)
        yield Site(cloud, server, cluster, faults)


def _signing_flags(folder: Path) -> list[str]:
    """Flags for RS256 keys, as AKS uses: the only algorithm that Entra promises to accept."""
    file = folder / "service-accounts.pem"
    file.write_bytes(
        rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    return [f"--service-account-signing-key-file={file}", f"--service-account-key-file={file}"]


async def _publish_issuer(cluster: Cluster) -> None:
    """Let anonymous callers read the issuer. AKS publishes its issuers on other hosts."""
    binding = {
        "metadata": {"name": "public-issuer"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "system:service-account-issuer-discovery",
        },
        "subjects": [
            {"kind": "Group", "name": "system:unauthenticated", "apiGroup": "rbac.authorization.k8s.io"},
        ],
    }
    path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    assert (await cluster.admin.post(path, binding)).status == 201
    await until(lambda: _jwks(cluster), lambda answer: answer.status == 200)


async def _jwks(cluster: Cluster) -> Answer:
    """Read the public keys as an anonymous caller."""
    return await cluster.stranger.get("/openid/v1/jwks", accept="application/jwk-set+json")


@dataclass(slots=True)
class Place:
    """One namespace with the workload's service account, and a valid identity and hub for it."""

    site: Site
    namespace: str
    root: Path
    hub: LocalHub
    managed: ManagedIdentity
    target: Target
    job: Json = field(default_factory=dict)

    @property
    def admin(self) -> Caller:
        return self.site.cluster.admin

    @property
    def identity(self) -> Identity:
        return self.managed.service_principal

    @property
    def subject(self) -> str:
        return f"system:serviceaccount:{self.namespace}:{ACCOUNT}"

    @property
    def parsed_hub(self) -> Hub:
        trusted = self.site.cloud.environment("")["TRUSTED_GOOGLE_HOSTS"].split(",")
        return Hub.parse(dict(self.hub.document), trusted_hosts=frozenset(trusted))

    async def onboard(self, chain: Chain = "entra", **options: Any) -> list[Answer]:
        """Apply the manifests as onboarding does, and wait until the role takes effect."""
        manifests = list(
            build_refresher(
                self.target,
                self.parsed_hub,
                self.identity.client_id if chain == "entra" else None,
                self.site.cloud.entra.tenant,
                chain,
                cloud=replace(PUBLIC, authority=str(URL(self.site.cloud.issuer_discovery).origin())),
                **options,
            )
        )
        answers = [await self.apply(manifest) for manifest in manifests]
        *_, self.job = (answer.body for answer in answers)
        attributes = {"namespace": self.namespace, "verb": "create", "resource": "secrets", "name": self.target.secret}
        review = {"spec": {"resourceAttributes": attributes}}
        workload = await self.workload()
        await until(
            lambda: workload.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review),
            lambda answer: answer.body["status"]["allowed"] is True,
        )
        return answers

    async def apply(self, manifest: Json) -> Answer:
        """Apply with strict field validation, so that an unknown field is an error."""
        version, kind, metadata = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        within = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
        path = f"{root}{within}/{_PLURALS.get(kind, f'{kind.lower()}s')}/{metadata['name']}"
        answer = await self.admin.apply(path, manifest, fieldValidation="Strict")
        assert answer.status in {200, 201}, answer.text
        return answer

    async def workload(self) -> Caller:
        """A caller with the service account's token."""
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{ACCOUNT}/token"
        issued = await self.admin.post(path, {"spec": {"expirationSeconds": 600}})
        return self.site.cluster.bearer(issued.body["status"]["token"])

    async def run(self) -> Finished:
        node = {"SSL_CERT_FILE": str(self.site.cloud.trust_file)}
        ended = await Kubelet(self.admin, self.root, node).run(self.job)
        self.assert_no_token(ended)
        return ended

    def assert_no_token(self, ended: Finished) -> None:
        """Fail if the output has a token or a traceback."""
        for name in ("subject-token", "api-token"):
            token = next(self.root.rglob(name)).read_text()
            assert token.rpartition(".")[0] not in ended.output
        assert "eyJ" not in ended.output
        assert "ya29" not in ended.output
        assert "Traceback" not in ended.output

    async def secret(self) -> Json:
        path = f"/api/v1/namespaces/{self.namespace}/secrets/{self.target.secret}"
        return (await self.admin.get(path)).body

    async def can_pull(self) -> bool:
        content = b64decode((await self.secret())["data"][".dockerconfigjson"])
        return await pull_check.can_pull(json.loads(content)["auths"], self.hub.image, self.site.cloud.authority.pem)

    async def trust_cluster(self) -> None:
        """Make Google's provider trust the cluster's issuer and its published keys."""
        self.hub.provider.issuer = self.site.cluster.url
        self.hub.provider.allowed_audiences = frozenset({self.parsed_hub.entra_resource or PUBLIC.exchange})
        jwks = (await _jwks(self.site.cluster)).body
        self.hub.provider.keys = lambda: jwks
        self.allow(self.subject)

    def federate(self, **change: str) -> None:
        """Add a federated credential for the workload's service account, with some fields changed."""
        right = FederatedCredential(self.site.cluster.url, self.subject, EXCHANGE)
        self.site.cloud.arm.federated_credentials.add(self.managed, "the-one", replace(right, **change))

    def allow(self, subject: str) -> None:
        """Make Google's provider accept this subject, and let it impersonate the hub's service account."""
        self.hub.provider.condition = lambda claims: bool(claims["sub"] == subject)
        principal = f"principal://iam.googleapis.com/{self.hub.provider.pool}/subject/{subject}"
        self.site.cloud.google.bind(self.hub.service_account, principal)


@pytest_asyncio.fixture(loop_scope="session")
async def place(site: Site, tmp_path: Path) -> AsyncIterator[Place]:
    name = f"hub-{uuid.uuid4().hex[:8]}"
    namespace = f"t-{name}"
    group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    identity = site.cloud.arm.identities.add(f"{group}/providers/{IDENTITIES}/{name}")
    target = Target(namespace=namespace, service_accounts=(ACCOUNT,))
    place = Place(site, namespace, tmp_path, site.cloud.add_hub(name), identity, target)
    place.allow(place.identity.principal_id)
    place.federate()
    restricted = manifests.namespace(namespace)
    restricted["metadata"]["labels"] |= {
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/warn": "restricted",
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": namespace}}
    # A controller, which does not run here, creates this one in every namespace.
    root_ca = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "kube-root-ca.crt", "namespace": namespace},
        "data": {"ca.crt": site.server.ca_pem},
    }
    for manifest in (restricted, account, root_ca):
        await place.apply(manifest)
    yield place
    for faults in (site.entra_faults, site.cloud.google_part.faults, site.cloud.registry_parts[0].faults):
        faults.clear()
