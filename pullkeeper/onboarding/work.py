"""What the phases of one operation share: the request, the clients to call, and what earlier phases found out."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from pullkeeper.azure.clusters import AzureClusters, ClusterFacts
from pullkeeper.azure.identities import AzureIdentities, FederatedCredential, ManagedIdentity
from pullkeeper.clouds import AzureCloud
from pullkeeper.cluster.access import Access
from pullkeeper.cluster.api import Api
from pullkeeper.deadline import remaining
from pullkeeper.errors import PolicyDenied, PullkeeperError, ScopeLocked
from pullkeeper.fleet.table import Fleet
from pullkeeper.model import Cluster, ClusterId, Endpoint, SelectorTarget, Target, selectors_in
from pullkeeper.onboarding.documents import Handover, Onboarding
from pullkeeper.onboarding.identity_names import GUIDE_IDENTITY, list_identity_names, own_identity
from pullkeeper.publisher.hub import Hub
from pullkeeper.refresh.refresh import FirstSecrets, Refresher

_ONE_STEP: Final = timedelta(seconds=60)
"""What the calls between two looks at the clock may take together."""


@dataclass(frozen=True, slots=True)
class Tools:
    """clusters, identities, access: act under the identity that onboards, which may be a stronger one than the app's.
    app_claims: return the claims (oid, appid, tid, iss, aud) of a token for a resource, of the identity that refreshes.
    """

    clusters: AzureClusters
    identities: AzureIdentities
    access: Access
    fleet: Fleet
    refresher: Refresher
    hubs: Mapping[str, Hub]
    app_claims: Callable[[str], Awaitable[Mapping[str, str]]]
    cloud: AzureCloud
    clock: Callable[[], datetime]


class OutOfTime(Exception):
    """The invocation has no time for another step. The next one continues the operation."""


class AwaitingFederation(Exception):
    """The remaining phases need the publisher's credential configuration. Its text is the detail of the last step."""


@dataclass(slots=True)
class Work:
    """The state of one operation. Each phase adds to it; when an operation is tried again, it starts empty.

    requests: `request` and all earlier ones since the last offboarding that left other things behind: what offboarding
    has to undo. failed_steps: names of the steps at which an earlier try failed. issuer: of the cluster's service
    account tokens; until the cluster is inspected, the one that an earlier operation found. principals: object ids of
    the app's identities that earlier operations gave rights to. reachable: False where the app does no work in the
    cluster. first: the secrets that it has written. manifests: what the pipeline has to apply then. left: lines of the
    result. complete: False once something of ours that should be removed was kept. removed_credentials: in a dry run,
    those that would be removed. used_identities: lower-case names of those on which offboarding found credentials of
    the cluster. update_requested: whether this operation has asked Azure to change the cluster. progressed: whether
    this invocation has changed something that the next one will find done. found_targets: of an offboarding, what
    selectors had found (`namespace/secret`).
    """

    request: Onboarding
    requests: tuple[Onboarding, ...]
    tools: Tools
    exit_stack: AsyncExitStack
    dry_run: bool
    failed_steps: frozenset[str] = frozenset()
    issuer: str | None = None
    principals: tuple[str, ...] = ()
    facts: ClusterFacts | None = None
    identity: ManagedIdentity | None = None
    endpoint: Endpoint | None = None
    reachable: bool = True
    app_claims: Mapping[str, str] = field(default_factory=dict)
    handover: Handover | None = None
    first: FirstSecrets | None = None
    manifests: list[dict[str, Any]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    complete: bool = True
    removed_credentials: set[FederatedCredential] = field(default_factory=set)
    used_identities: set[str] = field(default_factory=set)
    update_requested: bool = False
    progressed: bool = False
    _identities: dict[str, ManagedIdentity | None] = field(default_factory=dict)
    found_targets: frozenset[str] = frozenset()
    _api: Api | None = None

    @property
    def cluster(self) -> ClusterId:
        return self.request.cluster

    @property
    def trusts_identity(self) -> bool:
        """Whether the provider at Google trusts the cluster's identity."""
        return self.request.refresher == "in-cluster" and self.request.chain == "entra"

    @property
    def own_identity(self) -> str:
        return own_identity(self.cluster)

    @property
    def wanted_identity(self) -> str:
        """The name of the identity to create, where none exists."""
        return self.request.identity or self.own_identity

    @property
    def identity_names(self) -> tuple[str, ...]:
        """The names of the identities that may trust service accounts of the requests."""
        named = (list_identity_names(self.cluster, request.identity) for request in self.requests)
        return tuple(dict.fromkeys(name for names in named for name in names))

    @property
    def audience(self) -> str:
        """Of the assertions of the cluster's service accounts."""
        return self.request.audience or self.tools.cloud.exchange

    @property
    def targets(self) -> tuple[Target, ...]:
        """The named targets of all requests."""
        return tuple(dict.fromkeys(target for request in self.requests for target in request.named))

    @property
    def selectors(self) -> tuple[SelectorTarget, ...]:
        """The selectors of all requests."""
        wishes = (target for request in self.requests for target in selectors_in(request.targets))
        return tuple({target.to_json(): target for target in wishes}.values())

    def hub(self) -> Hub | None:
        """The request's hub, named or brought. None before the publisher has sent a credential configuration."""
        wanted = self.request.wanted_hub()
        return self.tools.hubs.get(wanted) if isinstance(wanted, str) else wanted

    def member(self) -> Cluster:
        hub = self.request.wanted_hub()
        if hub is None:
            raise AwaitingFederation("the cluster has no hub yet")
        return self.request.member(hub)

    def may_use(self, identity: ManagedIdentity) -> bool:
        """Whether service accounts may be federated with the identity. Callers choose it by name, and it may have
        rights in Azure: it must be ours, or shared by its owner (a tag), or the one of the installation guide.
        """
        return identity.ours or identity.shared or identity.name.lower() == GUIDE_IDENTITY

    def stop_if_late(self) -> None:
        """Raise OutOfTime if the invocation's time may not be enough for another step. Call it between two steps."""
        step = _ONE_STEP.total_seconds()
        if remaining(step) < step:
            raise OutOfTime

    @property
    def kept(self) -> dict[str, Any]:
        """What later invocations have to know, and what has been read of the cluster and stays."""
        at_rest = self.facts and self.facts.has_workload_identity and not self.facts.is_changing
        read = {"facts": self.facts, "endpoint": self.endpoint} if at_rest else {}
        return {"update_requested": self.update_requested, **read}

    def note_change(self) -> None:
        self.progressed = not self.dry_run

    def report_refusal(self, name: str, error: PullkeeperError, by: str = "the cluster") -> None:
        """Record that the cluster, or Azure, refused to remove something of ours."""
        self.complete = False
        self.left.append(f"{name}: {by} refused ({error.category}: {error.detail})")

    @contextmanager
    def report_protected(self, name: str) -> Iterator[None]:
        """Record that a lock or a policy in Azure keeps something of ours, and go on."""
        try:
            yield
        except (PolicyDenied, ScopeLocked) as e:
            self.report_refusal(name, e, by="Azure")

    async def remaining_credentials(self, identity: ManagedIdentity) -> list[str]:
        """Return the names of the identity's federated credentials that this offboarding keeps."""
        credentials = await self.tools.identities.list_credentials(identity)
        return [credential.name for credential in credentials if credential not in self.removed_credentials]

    async def find_identity(self, name: str) -> ManagedIdentity | None:
        """Look for an identity in the cluster's group, once in an invocation."""
        if name not in self._identities:
            cluster, find = self.cluster, self.tools.identities.find
            self._identities[name] = await find(cluster.subscription, cluster.resource_group, name)
        return self._identities[name]

    async def create_identity(self) -> ManagedIdentity:
        """Create the identity in the cluster's group and location, with the request's tags."""
        if self.facts is None:
            raise RuntimeError("the cluster is inspected first")
        cluster, request = self.cluster, self.request
        created = await self.tools.identities.create(
            cluster.subscription,
            cluster.resource_group,
            self.wanted_identity,
            self.facts.location,
            request.identity_tags,
        )
        self.note_change()
        return created

    async def add_tags(self, identity: ManagedIdentity) -> ManagedIdentity:
        """Add the request's tags to an identity of ours that lacks some. Other tags of it stay."""
        wanted = self.request.identity_tags
        if not identity.ours or identity.tags.items() >= wanted.items():
            return identity
        names = {name.lower() for name in wanted}
        tags = wanted | {name: value for name, value in identity.tags.items() if name.lower() not in names}
        updated = await self.tools.identities.create(
            identity.subscription, identity.resource_group, identity.name, identity.location, tags
        )
        self.note_change()
        return updated

    async def delete_identity(self, identity: ManagedIdentity) -> None:
        if not self.dry_run:
            await self.tools.identities.delete(identity)
            self.note_change()

    async def api(self) -> Api:
        """Return the client of the cluster's API server; open it at the first call. Raises ClusterError, ArmError,
        EntraError.
        """
        if self._api is None:
            self.endpoint = self.endpoint or await self.tools.access.locate(self.cluster, self.facts)
            api = await self.tools.access.open(self.cluster, self.endpoint, dry=self.dry_run)
            self._api = await self.exit_stack.enter_async_context(api)
        return self._api


class Phase(Protocol):
    """A module of `phases`. Each function returns one sentence: what it did, found done, or would do.

    An operation that is tried again runs every phase again, from the first, so `do` and `undo` treat "already done" as
    success. `do` raises PullkeeperError. `undo` removes only what Pullkeeper created, and reports the rest in
    `work.left`.
    """

    NAME: str

    async def plan(self, work: Work) -> str: ...

    async def do(self, work: Work) -> str: ...

    async def undo(self, work: Work) -> str: ...
