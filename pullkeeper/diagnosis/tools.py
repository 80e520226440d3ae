"""What a diagnosis looks with, and as whom.

The identity that refreshes looks at everything that a refresh needs. What it may not see, and what only onboarding
makes, is looked at as the identity that onboards, where that is another. What neither may see is skipped.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pullkeeper.azure.clusters import AzureClusters
from pullkeeper.azure.entra import Entra
from pullkeeper.azure.identities import AzureIdentities
from pullkeeper.clouds import AzureCloud
from pullkeeper.cluster.access import Access
from pullkeeper.documentation import Documentation
from pullkeeper.fleet.shard_table import Shards
from pullkeeper.fleet.table import Fleet
from pullkeeper.model import ClusterId
from pullkeeper.publisher.chain import Chain
from pullkeeper.publisher.hub import Hub

LIMIT: Final = timedelta(seconds=14)
"""For all hops. With the tables, which are read before, a diagnosis takes 15 s at most."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What was onboarded in Azure. identities: names of the managed identity, the likeliest first. audience: of the
    federated credentials; None for the cloud's.
    """

    identities: Sequence[str]
    audience: str | None = None


@dataclass(frozen=True, slots=True)
class Tools:
    """client_id: of the identity that refreshes; None for the system-assigned one. entra, chain, clusters, access: act
    under it. identities, onboarding_access: act under the one that onboards; onboarding_access is None where that is
    the same. read_trust: reads what was onboarded.
    """

    client_id: str | None
    entra: Entra
    chain: Chain
    clusters: AzureClusters
    access: Access
    identities: AzureIdentities
    onboarding_access: Access | None
    fleet: Fleet
    shards: Shards
    read_trust: Callable[[ClusterId], Awaitable[Trust]]
    hubs: Mapping[str, Hub]
    cloud: AzureCloud
    documentation: Documentation
    clock: Callable[[], datetime]
    limit: timedelta = LIMIT
