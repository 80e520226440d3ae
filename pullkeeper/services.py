"""The composition root: builds everything once per process, from the settings, at first use."""

import asyncio
import gc
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from typing import Self

from azure.core.credentials_async import AsyncTokenCredential
from azure.identity.aio import ManagedIdentityCredential

from pullkeeper import telemetry
from pullkeeper.azure.arm import Arm
from pullkeeper.azure.clusters import AzureClusters
from pullkeeper.azure.entra import Entra, claims
from pullkeeper.azure.identities import AzureIdentities
from pullkeeper.azure.quotas import Quotas
from pullkeeper.cluster.access import Access
from pullkeeper.diagnosis.diagnostics import Diagnostics
from pullkeeper.diagnosis.tools import Tools as DiagnosisTools
from pullkeeper.diagnosis.tools import Trust
from pullkeeper.documentation import Documentation
from pullkeeper.errors import OnboardingRoleMissing
from pullkeeper.fleet.creation import QUEUES, StorageObjects
from pullkeeper.fleet.mint_table import MintTable
from pullkeeper.fleet.overview import Overview
from pullkeeper.fleet.queues import ONBOARDING, REFRESH, Queue
from pullkeeper.fleet.shard_table import Shards
from pullkeeper.fleet.storage import connect_storage
from pullkeeper.fleet.table import Fleet
from pullkeeper.model import ClusterId
from pullkeeper.onboarding.documents import Handover, Onboarding
from pullkeeper.onboarding.handover import build_fleet_handover
from pullkeeper.onboarding.identity_names import list_identity_names
from pullkeeper.onboarding.listing import Listing
from pullkeeper.onboarding.messages import Messages
from pullkeeper.onboarding.onboarder import Onboarder
from pullkeeper.onboarding.operations import Operations
from pullkeeper.onboarding.retention import Retention
from pullkeeper.onboarding.run import Runner
from pullkeeper.onboarding.work import Tools
from pullkeeper.publisher.chain import Chain
from pullkeeper.publisher.federation import Federation
from pullkeeper.refresh.attempt import Writer
from pullkeeper.refresh.refresh import Refresher
from pullkeeper.refresh.revocation import Revocation
from pullkeeper.refresh.schedule import Scheduler
from pullkeeper.settings import STORAGE, Settings
from pullkeeper.tokens import ClientCertificate


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases of the app, built from its settings."""

    fleet: Fleet
    shards: Shards
    mints: MintTable
    scheduler: Scheduler
    federation: Federation
    refresher: Refresher
    onboarder: Onboarder
    listing: Listing
    messages: Messages
    runner: Runner
    retention: Retention
    overview: Overview
    diagnostics: Diagnostics
    handover: Callable[[str | None], Awaitable[Handover]]
    queues: Mapping[str, Queue]
    storage_objects: StorageObjects
    settings: Settings
    clock: Callable[[], datetime]
    _connections: AsyncExitStack

    @classmethod
    def build(cls, environment: Mapping[str, str], clock: Callable[[], datetime]) -> Self:
        """Build everything; connects to nothing yet. Raises InvalidSetting only if there is no storage account: what
        needs another wrong setting fails by itself.
        """
        settings = Settings.read(environment)
        settings.require(*STORAGE)
        cloud = settings.cloud
        entra = Entra(partial(_credential, settings.client_id))
        onboarding = Entra(partial(_credential, settings.onboarding_client_id or settings.client_id))
        storage_credential = _credential(settings.storage_client_id or settings.client_id)
        tables, queues = connect_storage(settings, storage_credential)
        shards = Shards(tables)
        fleet = Fleet(tables, shards, settings.trusted_hosts, clock)
        by_name = {name: Queue(queues, name) for name in QUEUES}
        refreshing_arm = Arm(entra, settings.fault("ARM_ENDPOINT") or cloud.arm, cloud.arm_resource)
        scheduler = Scheduler(fleet, shards, by_name, clock)
        mints = MintTable(tables, {hub.identity: name for name, hub in settings.hubs.valid.items()})
        revocation = Revocation(tables, scheduler, clock)
        federation = Federation(entra, clock, revocation.replace, mints.record, cloud.exchange)
        certificates: dict[ClusterId, ClientCertificate] = {}
        access = Access(entra, AzureClusters(refreshing_arm, clock), certificates)
        writer = Writer(federation, access, settings.hubs, clock)
        refresher = Refresher(fleet, shards, by_name[REFRESH], writer, clock)
        arm = _connect_onboarding(settings, onboarding, clock)
        clusters = AzureClusters(arm, clock)
        tools = Tools(
            clusters=clusters,
            identities=AzureIdentities(arm),
            access=Access(onboarding, clusters, certificates if settings.has_one_identity else None),
            fleet=fleet,
            refresher=refresher,
            hubs=settings.hubs,
            app_claims=partial(_read_claims, entra),
            cloud=cloud,
            clock=clock,
        )
        operations = Operations(tables, settings.trusted_hosts)
        clients = (queues, tables, storage_credential, onboarding, entra, refreshing_arm, arm)
        messages = Messages(operations, by_name[ONBOARDING], clock)
        return cls(
            fleet=fleet,
            shards=shards,
            mints=mints,
            scheduler=scheduler,
            federation=federation,
            refresher=refresher,
            onboarder=Onboarder(operations, messages, tools, settings.allowed_scopes, settings.documentation),
            listing=Listing(tables, operations, clock),
            messages=messages,
            runner=Runner(operations, messages, tools, settings.onboarding_wait),
            retention=Retention(tables, operations, clock),
            overview=Overview(fleet, shards, settings.documentation, clock),
            diagnostics=_build_diagnostics(settings, tools, operations, shards, (entra, refreshing_arm, access)),
            handover=partial(build_fleet_handover, tools),
            queues=by_name,
            storage_objects=StorageObjects(tables, queues),
            settings=settings,
            clock=clock,
            _connections=_close_later(mints.finish, *(client.close for client in clients)),
        )

    @property
    def documentation(self) -> Documentation:
        return self.settings.documentation

    async def close(self) -> None:
        """Finish what is under way in the background, and close all connections."""
        await self._connections.aclose()


def _credential(client_id: str | None) -> AsyncTokenCredential:
    return ManagedIdentityCredential(client_id=client_id)


def _connect_onboarding(settings: Settings, entra: Entra, clock: Callable[[], datetime]) -> Arm:
    """Return Azure Resource Manager under the identity that onboards."""
    cloud = settings.cloud
    endpoint = settings.fault("AZURE_AUTHORITY_HOST") or settings.fault("ARM_ENDPOINT") or cloud.arm
    return Arm(entra, endpoint, cloud.arm_resource, denied=OnboardingRoleMissing, quotas=Quotas(clock))


def _build_diagnostics(
    settings: Settings,
    tools: Tools,
    operations: Operations,
    shards: Shards,
    refreshing: tuple[Entra, Arm, Access],
) -> Diagnostics:
    """tools: act as the identity that onboards. refreshing: as the one that refreshes."""
    entra, arm, access = refreshing

    async def read_trust(cluster: ClusterId) -> Trust:
        requests = [request for _, request in await operations.list_onboardings(cluster)]
        latest = requests[-1] if requests else Onboarding(cluster=cluster)
        return Trust(list_identity_names(cluster, latest.identity), latest.audience)

    return Diagnostics(
        DiagnosisTools(
            client_id=settings.client_id,
            entra=entra,
            chain=Chain(entra, tools.clock, tools.cloud.exchange),
            clusters=AzureClusters(arm, tools.clock),
            access=access,
            identities=tools.identities,
            onboarding_access=None if settings.has_one_identity else tools.access,
            fleet=tools.fleet,
            shards=shards,
            read_trust=read_trust,
            hubs=tools.hubs,
            cloud=tools.cloud,
            documentation=settings.documentation,
            clock=tools.clock,
        )
    )


def _close_later(*closes: Callable[[], Awaitable[None]]) -> AsyncExitStack:
    """Return a stack whose end calls each of these, in this order, also where one of them fails."""
    stack = AsyncExitStack()
    for close in reversed(closes):
        stack.push_async_callback(close)
    return stack


async def _read_claims(entra: Entra, resource: str) -> Mapping[str, str]:
    return claims(await entra.token(resource))


@cache
def current_settings() -> Settings:
    """Return the settings of this process, read at the first call: reading them takes some 20 ms."""
    return Settings.read(os.environ)


@cache
def services() -> Services:
    """Return the services of this process. The first call creates missing queues and tables in the background; the
    services are closed when its event loop ends in order.
    """
    built = Services.build(os.environ, lambda: datetime.now(UTC))
    telemetry.documentation = built.documentation
    limit_garbage_collection()
    _background.append(asyncio.get_running_loop().create_task(_create_and_close(built)))
    return built


def limit_garbage_collection() -> None:
    """Spare what is imported and built from collection, and collect less often: with Python's defaults, collections
    are a tenth of a refresh.
    """
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


_background: list[asyncio.Task[None]] = []


async def _create_and_close(built: Services) -> None:
    """Create queues and tables, then wait to be cancelled and close the services: the platform does not announce its
    end, but an event loop that ends cancels the tasks that still run.
    """
    try:
        await built.storage_objects.create()
        await asyncio.Event().wait()
    finally:
        await built.close()
