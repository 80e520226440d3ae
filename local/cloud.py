"""The cloud on one machine: an Entra tenant, Azure Resource Manager, Google with hubs and registries, and clusters.

All servers run in one event loop and serve TLS under a CA of this process. The app is pointed at them by environment
variables alone: it has no test switch.
"""

import json
import tempfile
import uuid
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from aiohttp import web
from aiohttp.typedefs import Middleware

from local.administrator import Administrator, ApiServer
from local.azure.arm import CLUSTER_USER, ONBOARDER, Arm
from local.azure.assertions import Assertions
from local.azure.entra import EXCHANGE_ID, Entra, Identity, IdentityEndpoint
from local.azure.managed_cluster import ManagedCluster
from local.clock import Clock
from local.google.provider import Provider
from local.google.registry import Registry
from local.google.token_services import Google
from local.kubernetes import ApiServer as StandIn
from local.serving import Authority, Faults, Journal, Server
from pullkeeper.cluster.manifests import namespace
from pullkeeper.cluster.rights import access as rights
from pullkeeper.cluster.rights import admission_policy
from pullkeeper.fleet.table import Member
from pullkeeper.model import Cluster, ClusterId, Endpoint, Target, Wish

SUBSCRIPTION: Final = str(uuid.UUID(int=0x5EED))
GROUP: Final = "platform"
_RBAC: Final = "rbac.authorization.k8s.io"
_PROJECT: Final = "deepintshield-images"


@dataclass(slots=True)
class Part:
    """The journal and the injected faults of one stand-in."""

    journal: Journal = field(default_factory=Journal)
    faults: Faults = field(default_factory=Faults)

    @property
    def middlewares(self) -> list[Middleware]:
        return [self.journal.middleware, self.faults.middleware]


@dataclass(frozen=True, slots=True)
class LocalHub:
    """A hub at Google. document: the hub in the format of the setting HUBS. principal: the app's identity, as the pool
    names it. reader: who may read the repositories. image: PROJECT/REPOSITORY/IMAGE.
    """

    document: Mapping[str, Any]
    provider: Provider
    service_account: str
    principal: str
    reader: str
    image: str

    @property
    def repository(self) -> str:
        return self.image.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """A cluster: its API server, its administrator, its entry for the fleet, and its journal and faults."""

    server: ApiServer
    admin: Administrator
    member: Member
    part: Part

    @property
    def id(self) -> ClusterId:
        return self.member.cluster.cluster

    @property
    def target(self) -> Target:
        return self.member.cluster.named[0]


class Cloud:
    """Use with `async with`: add hubs and clusters, and start the app with `environment`."""

    def __init__(self, clock: Clock, authority: Authority | None = None, entra: Entra | None = None) -> None:
        """entra: an existing tenant, which running API servers trust; by default a new one."""
        self.clock = clock
        self.authority = authority or Authority()
        self.entra = entra.with_clock(clock) if entra else Entra(clock)
        self.app = self.onboarder = self.entra.add_identity("pullkeeper")
        self.identity = IdentityEndpoint(self.entra, clock, [self.app])
        parts = self.identity_part, self.google_part, self.arm_part = Part(), Part(), Part()
        self.google = Google(self.entra, clock, middlewares=parts[1].middlewares)
        self.arm = Arm(self.entra, clock, middlewares=parts[2].middlewares)
        self.assertions = Assertions(self.entra, clock, self.arm.federated_credentials.find_trusted)
        self.entra.application.add_routes(self.assertions.routes())
        self.registry_parts = [Part(), Part()]
        self.registries = [Registry(self.google, clock, middlewares=part.middlewares) for part in self.registry_parts]
        self.hubs: dict[str, LocalHub] = {}
        self.clusters: dict[str, LocalCluster] = {}
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        folder = Path(self._opened.enter_context(tempfile.TemporaryDirectory(prefix="pullkeeper-cloud-")))
        self.trust_file = folder / "ca.pem"
        self.trust_file.write_text(self.authority.pem)
        identity = web.Application(middlewares=self.identity_part.middlewares)
        identity.add_routes(self.identity.routes())
        self._identity_server = await self._serve(identity, tls=False)
        self._entra_server = await self._serve(self.entra.application)
        self._google_server = await self._serve(self.google.application)
        self._arm_server = await self._serve(self.arm.application)
        self._registry_servers = [await self._serve(registry.application) for registry in self.registries]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()

    def add_onboarder(self) -> Identity:
        """Have a second identity onboard. It is administrator of the clusters to come, and the app's own is not."""
        self.onboarder = self.entra.add_identity("pullkeeper-onboarding")
        self.identity.assign(self.onboarder)
        self.arm.assign(self.onboarder.principal_id, f"/subscriptions/{SUBSCRIPTION}", ONBOARDER)
        return self.onboarder

    @property
    def issuer_discovery(self) -> str:
        """The URL at which a real API server finds the tenant's keys."""
        return f"{self._entra_server.url}/{self.entra.tenant}/.well-known/openid-configuration"

    def add_hub(self, name: str, *, lifetime: int = 3600, registries: int = 1, impersonate: bool = True) -> LocalHub:
        """Add a pool, a provider that trusts this tenant, and a service account that reads from each registry."""
        pool = f"projects/{100000 + len(self.hubs)}/locations/global/workloadIdentityPools/{name}-azure-pool"
        subject = self.app.principal_id
        provider = self.google.add_provider(
            pool,
            f"{name}-azure-provider",
            self.entra.issuer_v2,
            [EXCHANGE_ID],
            condition=lambda claims: claims["sub"] == subject,
        )
        email = f"{name}-pull@{_PROJECT}.iam.gserviceaccount.com"
        principal = f"principal://iam.googleapis.com/{pool}/subject/{subject}"
        self.google.add_service_account(email)
        self.google.bind(email, principal)
        reader = f"serviceAccount:{email}" if impersonate else principal
        image = f"{_PROJECT}/{name}/deepintshield"
        hosts = [server.host for server in self._registry_servers[:registries]]
        for registry in self.registries[:registries]:
            registry.add_image(image, "latest")
            registry.grant(f"{_PROJECT}/{name}", reader)
        google = self._google_server.url
        impersonation = f"{google}/v1/projects/-/serviceAccounts/{email}:generateAccessToken"
        config = {
            "type": "external_account",
            "audience": f"//iam.googleapis.com/{pool}/providers/{name}-azure-provider",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{google}/v1/token",
            "credential_source": {"file": "/var/run/secrets/azure/tokens/azure-identity-token"},
            # As gcloud writes it: one or the other.
            **(
                {"service_account_impersonation_url": impersonation}
                if impersonate
                else {"token_info_url": f"{google}/v1/introspect"}
            ),
        }
        document = {
            "credentialConfig": config,
            "registries": hosts,
            "probe": f"{hosts[0]}/{image}:latest",
            "tokenLifetime": lifetime,
        }
        self.hubs[name] = hub = LocalHub(document, provider, email, principal, reader, image)
        return hub

    async def add_cluster(
        self,
        name: str,
        hub: str,
        *,
        group: str = GROUP,
        targets: Iterable[Wish] = (Target(),),
        adopt: bool = False,
        local_accounts: bool = False,
        server: ApiServer | None = None,
        access: bool = True,
        ready: bool = True,
    ) -> LocalCluster:
        """Start a cluster that Azure knows, with the namespaces and the refresher's role that onboarding creates.

        server: a real API server, not yet started, in place of the stand-in. access: whether the role exists. ready:
        False for a cluster that is still to be onboarded: the identity that onboards is its administrator, and it is
        empty.
        """
        part = Part()
        server = server or StandIn(name, self.entra, self.clock, middlewares=part.middlewares)
        await server.start()
        self._opened.push_async_callback(server.stop)
        admin = await self._opened.enter_async_context(Administrator(server))
        wanted = Cluster(cluster=ClusterId(SUBSCRIPTION, group, name), hub=hub, targets=tuple(targets), adopt=adopt)
        namespaces = [namespace(name) for name in dict.fromkeys(target.namespace for target in wanted.named)]
        principal = self.app.principal_id
        policy = admission_policy(wanted.targets, principal, adopt=adopt)
        for manifest in (*namespaces, *policy, *rights(wanted.targets, principal)):
            if ready and (access or manifest["kind"] not in {"RoleBinding", "ClusterRoleBinding"}):
                await admin.apply(manifest)
        if not ready:
            await admin.apply(cluster_admin_binding(self.onboarder.principal_id))
        self.arm.clusters.add(
            ManagedCluster(
                resource_id=str(wanted.cluster),
                server=server.url,
                ca_pem=server.ca_pem,
                oidc_issuer=f"https://oidc.example/{name}/",
                workload_identity=True,
                client_certificate=server.admin_cert_pem if local_accounts else None,
                client_key=server.admin_key_pem if local_accounts else None,
            )
        )
        self.arm.assign(self.app.principal_id, str(wanted.cluster), CLUSTER_USER)
        endpoint = Endpoint(server=server.url, ca=server.ca_pem, local_accounts=local_accounts, read_at=self.clock())
        self.clusters[name] = cluster = LocalCluster(server, admin, Member(wanted, endpoint), part)
        return cluster

    def environment(self, storage: str | Mapping[str, str]) -> dict[str, str]:
        """The app's settings and the variables that the platform adds.

        storage: a connection string, or the settings of an identity-based connection.
        """
        hosts = [self._google_server.host, *(server.host for server in self._registry_servers)]
        return {
            **({"AzureWebJobsStorage": storage} if isinstance(storage, str) else storage),
            "AZURE_CLIENT_ID": self.app.client_id,
            **({} if self.onboarder is self.app else {"ONBOARDING_CLIENT_ID": self.onboarder.client_id}),
            "ARM_ENDPOINT": self._arm_server.url,
            "AZURE_AUTHORITY_HOST": self._entra_server.url,
            "TRUSTED_GOOGLE_HOSTS": ",".join(hosts),
            "HUBS": json.dumps({name: dict(hub.document) for name, hub in self.hubs.items()}),
            **self.identity.environment(self._identity_server.url),
            "SSL_CERT_FILE": str(self.trust_file),
            "REQUESTS_CA_BUNDLE": str(self.trust_file),
            "NO_PROXY": "127.0.0.1,localhost",
        }

    async def _serve(self, application: web.Application, *, tls: bool = True) -> Server:
        server = Server(application, authority=self.authority if tls else None)
        await server.start()
        self._opened.push_async_callback(server.stop)
        return server


def cluster_admin_binding(principal: str) -> dict[str, Any]:
    """Makes a principal an administrator, as the role Azure Kubernetes Service RBAC Cluster Admin does."""
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "platform-team"},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": _RBAC, "kind": "User", "name": principal}],
    }
