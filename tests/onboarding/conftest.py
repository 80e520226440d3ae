"""Clusters that are not onboarded yet, and operations that run as the queue would run them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import pytest
import stamina

from local.azure.arm import ONBOARDER
from local.azure.assertions import FederatedCredential
from local.azure.managed_cluster import ManagedCluster
from local.azure.managed_identities import ManagedIdentity
from local.cloud import GROUP, SUBSCRIPTION, LocalCluster
from pullkeeper.onboarding.documents import FINAL_STATUSES, OnboardingMessage, Operation, Step
from pullkeeper.onboarding.documents import Onboarding as Request
from pullkeeper.onboarding.rows import StoredOperation
from pullkeeper.services import Services
from tests.world import World

GUIDE_IDENTITY: Final = "deepintshield-pull-identity"
IDENTITY: Final = "deepintshield-pull-identity-aks-1"
"""By default, that of the cluster aks-1."""
NAMESPACE: Final = "deepintshield"
ACCOUNT: Final = "deepintshield-sa"
SUBJECT: Final = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
SECRET: Final = f"/api/v1/secrets/{NAMESPACE}/ar-pull-secret"
AUDIENCE: Final = "api://AzureADTokenExchange"
WORKLOAD: Final = {"image": "europe-docker.pkg.dev/p/r/app:1"}
MERGE: Final = "application/merge-patch+json"
_KINDS: Final = (
    "/api/v1/namespaces",
    "/api/v1/serviceaccounts",
    "/api/v1/secrets",
    "/api/v1/configmaps",
    "/api/v1/services",
    "/apis/apps/v1/deployments",
    "/apis/batch/v1/cronjobs",
    "/apis/rbac.authorization.k8s.io/v1/roles",
    "/apis/rbac.authorization.k8s.io/v1/rolebindings",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
)
_INCIDENTAL: Final = frozenset({"uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"})


@dataclass(frozen=True, slots=True)
class Onboarding:
    world: World

    async def cluster(self, name: str, hub: str = "main", **options: Any) -> LocalCluster:
        """Add a cluster that exists in Azure and is not prepared in any way."""
        return await self.world.cloud.add_cluster(name, hub, ready=False, **options)

    async def run(self, body: Mapping[str, Any]) -> Operation:
        """Onboard, and process the operation to its end."""
        return await self.process((await self.begin(body)).id)

    async def begin(self, body: Mapping[str, Any]) -> Operation:
        """Send the request, and leave its message on the queue."""
        services = self.world.services
        request = Request.parse(dict(body), trusted_hosts=services.settings.trusted_hosts)
        return await services.onboarder.onboard(request)

    async def onboard(self, cluster: LocalCluster, **wanted: Any) -> Operation:
        """Onboard into the hub `main`. Fails unless the operation succeeds."""
        ended = await self.run({"cluster": str(cluster.id), "hub": "main", **wanted})
        assert ended.status == "Succeeded", describe(ended)
        return ended

    async def offboard_fully(self, cluster: LocalCluster, *, keep_workload: bool = False) -> list[str]:
        """Offboard, and return what is left. Fails unless the operation succeeds."""
        return left(await self.offboard(cluster, keep_workload=keep_workload))

    async def offboard(self, cluster: LocalCluster, *, keep_workload: bool = False, dry_run: bool = False) -> Operation:
        begun = await self.world.services.onboarder.offboard(cluster.id, keep_workload=keep_workload, dry_run=dry_run)
        return await self.process(begun.id)

    async def process(self, operation: str, *, by: Services | None = None) -> Operation:
        """Run an operation to its end: each of its messages when it is due; where none is to come, the timer."""
        while True:
            stored = await self.read_stored(operation)
            if stored.operation.status in FINAL_STATUSES:
                return stored.operation
            if stored.due is None:
                self.world.clock.advance(timedelta(minutes=4))
                await self.world.services.messages.resume_stalled()
            else:
                await self.deliver(operation, by=by)

    async def deliver(self, operation: str, *, by: Services | None = None) -> Operation:
        """Run the invocation of the message that the operation waits for, when it is due."""
        stored = await self.read_stored(operation)
        assert stored.due is not None, describe(stored.operation)
        self.world.clock.advance(max(stored.due - self.world.clock(), timedelta()))
        message = OnboardingMessage(operation=operation, turn=stored.turn)
        return await (by or self.world.services).runner.run(message)

    async def read_stored(self, operation: str) -> StoredOperation:
        return await self.world.services.runner._operations.load(operation)

    async def restart(self) -> None:
        """Start the app again, with the present settings and with nothing in memory."""
        await self.world.services.close()
        self.world._services = self.world.build_services()

    def fill_identity(self, count: int, name: str = IDENTITY, **tags: str) -> None:
        """Add an identity that already has this number of federated credentials."""
        arm = self.world.cloud.arm
        identity = arm.identities.add(identity_id(name), tags=tags)
        for number in range(count):
            trust = FederatedCredential(f"https://oidc.example/other-{number}/", SUBJECT, AUDIENCE)
            arm.federated_credentials.add(identity, f"other-{number}", trust)

    def azure(self, cluster: LocalCluster) -> ManagedCluster:
        """The cluster as Azure holds it."""
        return self.world.cloud.arm.clusters.get(str(cluster.id))

    def identity(self, name: str = IDENTITY) -> ManagedIdentity | None:
        return self.world.cloud.arm.identities.find(identity_id(name))

    def credentials(self, name: str = IDENTITY) -> dict[str, tuple[str, str]]:
        """Issuer and subject of each federated credential, by name."""
        identity = self.identity(name)
        held = self.world.cloud.arm.federated_credentials.find_all(identity) if identity else []
        return {one.name: (one.trust.issuer, one.trust.subject) for one in held}

    async def fleet(self) -> set[str]:
        rows = await self.world.services.fleet.page(None, 1000)
        return {str(row.id) for _, row in rows}


def identity_id(name: str) -> str:
    return (
        f"/subscriptions/{SUBSCRIPTION}/resourcegroups/{GROUP}/providers/Microsoft.ManagedIdentity"
        f"/userAssignedIdentities/{name}"
    )


def brought(onboarding: Onboarding) -> dict[str, Any]:
    """The fields of a hub, instead of its name."""
    document = onboarding.world.cloud.hubs["main"].document
    return {"hub": None, **{name: document[name] for name in ("credentialConfig", "registries", "probe")}}


def federated(*names: str) -> list[dict[str, Any]]:
    """Service accounts of a request that ask to be federated."""
    return [{"name": name, "federate": True} for name in names]


def step(operation: Operation, name: str) -> Step:
    return next(step for step in operation.steps if step.name == name)


def seconds_to_next(stored: StoredOperation) -> float:
    """The delay of the message that was sent when the operation was saved."""
    assert stored.due is not None
    return (stored.due - stored.operation.updated_at).total_seconds()


def left(operation: Operation) -> list[str]:
    """What the operation left, and why."""
    assert operation.status == "Succeeded", describe(operation)
    assert operation.result is not None
    return list(operation.result.left)


def describe(operation: Operation) -> str:
    """Format an operation for the message of a failed assertion."""
    lines = [f"{one.status:8} {one.name}: {one.category or ''} {one.detail or ''}" for one in operation.steps]
    return "\n".join([operation.status, *lines])


async def list_objects(cluster: LocalCluster) -> dict[str, dict[str, Any]]:
    """Return every object in the cluster, by path."""
    found = {}
    for kind in _KINDS:
        for item in (await cluster.admin.call("GET", kind))["items"]:
            metadata = item["metadata"]
            found[f"{kind}/{metadata.get('namespace', '')}/{metadata['name']}"] = item
    return found


async def list_versions(cluster: LocalCluster) -> dict[str, str]:
    """Return the resourceVersion of every object in the cluster."""
    return {path: item["metadata"]["resourceVersion"] for path, item in (await list_objects(cluster)).items()}


async def list_content(cluster: LocalCluster) -> dict[str, dict[str, Any]]:
    """Return every object without the fields that differ between two equal clusters; of a secret only its labels."""
    found = await list_objects(cluster)
    for path, item in found.items():
        item["metadata"] = {key: value for key, value in item["metadata"].items() if key not in _INCIDENTAL}
        item["spec"] = {
            key: value for key, value in item.get("spec", {}).items() if key not in {"clusterIP", "clusterIPs"}
        }
        if "/secrets/" in path:
            found[path] = {"labels": item["metadata"].get("labels")}
    return {path: item for path, item in found.items() if "/clusterrole" not in path}


async def get_service_account(cluster: LocalCluster, name: str = ACCOUNT, namespace: str = NAMESPACE) -> dict[str, Any]:
    return await cluster.admin.call("GET", f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}")


async def create_namespace(cluster: LocalCluster, name: str = NAMESPACE) -> None:
    """Create a namespace that is not ours."""
    await cluster.admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})


async def create_service_account(cluster: LocalCluster, space: str = NAMESPACE, **more: Any) -> None:
    """Create a service account that is not ours, with the name that onboarding expects."""
    account = {"metadata": {"name": ACCOUNT, **more.pop("metadata", {})}, **more}
    await cluster.admin.call("POST", f"/api/v1/namespaces/{space}/serviceaccounts", account)


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    """Retries within a call follow each other without a wait."""
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


@pytest.fixture
def onboarding(world: World) -> Onboarding:
    """One identity onboards and refreshes. It has the rights that onboarding needs."""
    world.settings["ONBOARDING_SCOPES"] = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    world.cloud.arm.assign(world.cloud.app.principal_id, f"/subscriptions/{SUBSCRIPTION}", ONBOARDER)
    return Onboarding(world)


@pytest.fixture
def two_identities(world: World) -> Onboarding:
    """A stronger identity onboards, and the app's own has only the rights to refresh."""
    world.cloud.add_onboarder()
    world.settings["ONBOARDING_SCOPES"] = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    return Onboarding(world)


@pytest.fixture
def any_number_of_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash counts as a try; here are more crashes than tries."""
    monkeypatch.setattr("pullkeeper.onboarding.messages.MOST_TRIES", 100)
