"""What the phases of one onboarding share: the request, what they can call, and what they have found out so far."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from pullkeeper.azure.clusters import AzureClusters, ClusterFacts
from pullkeeper.azure.identities import AzureIdentities, FederatedCredential, ManagedIdentity
from pullkeeper.cluster.access import Access
from pullkeeper.cluster.api import Api
from pullkeeper.errors import PullkeeperError
from pullkeeper.fleet.table import Fleet
from pullkeeper.model import Cluster, ClusterId, Endpoint, Hub, Target
from pullkeeper.onboarding.documents import GUIDES_IDENTITY, Handover, Onboarding
from pullkeeper.refresh.refresh import Refresher


@dataclass(frozen=True, slots=True)
class Tools:
    """clusters, identities and access act under the identity that onboards, which may be a stronger one than the app's.

    app: the claims (oid, appid, tid, iss, aud) of a token for a resource, of the identity that refreshes.
    authority_host: Entra's address in this Azure cloud, for refreshers that run in clusters.
    """

    clusters: AzureClusters
    identities: AzureIdentities
    access: Access
    fleet: Fleet
    refresher: Refresher
    hubs: dict[str, Hub]
    app: Callable[[str], Awaitable[Mapping[str, str]]]
    authority_host: str
    clock: Callable[[], datetime]


class AwaitingFederation(Exception):
    """All that can be done before the publisher has handed out a credential configuration is done. Says what was."""


@dataclass(slots=True)
class Work:
    """One onboarding or offboarding. Phases fill it in from top to bottom; a replay fills it in again.

    asked: every onboarding since the cluster was last offboarded whose traces differ, `request` among them: what they
    have left is what offboarding takes away. dry: nothing is to change. failed: steps at which an earlier try failed.
    issuer: of the cluster's service account tokens; at first what an earlier operation knew. reachable: False where the
    work in the cluster is left to others, or to nobody. distrusted: federated credentials that are gone, or would be.
    complete: whether all of ours has gone that should.
    """

    request: Onboarding
    asked: tuple[Onboarding, ...]
    tools: Tools
    opened: AsyncExitStack
    dry: bool
    failed: frozenset[str] = frozenset()
    issuer: str | None = None
    facts: ClusterFacts | None = None
    identity: ManagedIdentity | None = None
    endpoint: Endpoint | None = None
    reachable: bool = True
    app: Mapping[str, str] = field(default_factory=dict)
    handover: Handover | None = None
    rendered: list[dict[str, Any]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    complete: bool = True
    distrusted: set[FederatedCredential] = field(default_factory=set)
    _api: Api | None = None

    @property
    def cluster(self) -> ClusterId:
        return self.request.cluster

    @property
    def targets(self) -> tuple[Target, ...]:
        """Of all that was asked."""
        return tuple(dict.fromkeys(target for request in self.asked for target in request.targets))

    def hub(self) -> Hub | None:
        """The hub itself, whether it was named or brought. None before the publisher has handed it out."""
        wanted = self.request.wanted_hub()
        return self.tools.hubs.get(wanted) if isinstance(wanted, str) else wanted

    def may_use(self, identity: ManagedIdentity) -> bool:
        """Whoever may onboard chooses the identity that a service account counts as. Ours has no rights in Azure; for
        anybody else's its owner has to have said so, or it is the one that the installation guide has one make.
        """
        return identity.ours or identity.lent or identity.name.lower() == GUIDES_IDENTITY

    def refused(self, name: str, error: PullkeeperError) -> None:
        """Something that should have gone stays, for a reason of the cluster's."""
        self.complete = False
        self.left.append(f"{name}: the cluster refused ({error.category}: {error.detail})")

    async def still_trusting(self, identity: ManagedIdentity) -> list[str]:
        """Names of the federated credentials that others still need."""
        held = await self.tools.identities.credentials(identity)
        return [credential.name for credential in held if credential not in self.distrusted]

    async def delete(self, identity: ManagedIdentity) -> None:
        if not self.dry:
            await self.tools.identities.delete(identity)

    def member(self) -> Cluster:
        hub = self.request.wanted_hub()
        if hub is None:
            raise AwaitingFederation("it has no hub yet")
        return self.request.member(hub)

    async def api(self) -> Api:
        """The cluster's API server, opened once. Raises ClusterError, ArmError, EntraError."""
        if self._api is None:
            self.endpoint = self.endpoint or await self.tools.access.locate(self.cluster)
            api = await self.tools.access.open(self.cluster, self.endpoint, dry=self.dry)
            self._api = await self.opened.enter_async_context(api)
        return self._api


class Phase(Protocol):
    """A module of this package. Each function says in a sentence what it did, found done, or would do.

    do raises PullkeeperError; what another try can mend is tried again from the first phase on, so whatever is done
    already is success. undo never takes away what Pullkeeper did not make; what it leaves goes on work.left.
    """

    NAME: str

    async def plan(self, work: Work) -> str: ...

    async def do(self, work: Work) -> str: ...

    async def undo(self, work: Work) -> str: ...
