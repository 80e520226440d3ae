"""The composition root: builds everything once per process, from the settings, at first use."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from typing import Self

from azure.core.credentials_async import AsyncTokenCredential
from azure.identity.aio import ManagedIdentityCredential

from pullkeeper.azure.arm import Arm
from pullkeeper.azure.clusters import AzureClusters
from pullkeeper.azure.entra import Entra, claims
from pullkeeper.azure.identities import AzureIdentities
from pullkeeper.cluster.access import Access
from pullkeeper.errors import OnboardingRoleMissing
from pullkeeper.fleet.overview import Overview
from pullkeeper.fleet.queues import ONBOARDING, REFRESH, Queue
from pullkeeper.fleet.storage import connect_storage
from pullkeeper.fleet.table import Fleet
from pullkeeper.onboarding.documents import Handover
from pullkeeper.onboarding.handover import fleet_handover
from pullkeeper.onboarding.operations import Operations
from pullkeeper.onboarding.run import Onboarder
from pullkeeper.onboarding.work import Tools
from pullkeeper.publisher.federation import Federation
from pullkeeper.refresh.refresh import Refresher
from pullkeeper.refresh.schedule import Scheduler
from pullkeeper.settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases of the app, built from its settings."""

    fleet: Fleet
    scheduler: Scheduler
    refresher: Refresher
    onboarder: Onboarder
    overview: Overview
    handover: Callable[[str | None], Awaitable[Handover]]
    settings: Settings
    _connections: AsyncExitStack

    @classmethod
    def build(cls, environment: Mapping[str, str], clock: Callable[[], datetime]) -> Self:
        """Build everything; connects to nothing yet. Raises InvalidRequest that names each wrong setting."""
        settings = Settings.read(environment)

        def credential(client_id: str | None = settings.client_id) -> AsyncTokenCredential:
            return ManagedIdentityCredential(client_id=client_id)

        entra = Entra(credential)
        onboarding = Entra(lambda: credential(settings.onboarding_client_id or settings.client_id))
        tables, queues = connect_storage(settings, entra.credential)
        fleet = Fleet(tables, settings.trusted_hosts)
        access = Access(entra, AzureClusters(Arm(entra, settings.arm_endpoint), clock))
        refresher = Refresher(fleet, Federation(entra, clock), access, settings.hubs, clock)
        arm = Arm(onboarding, settings.arm_endpoint, denied=OnboardingRoleMissing)
        clusters = AzureClusters(arm, clock)

        async def app_claims(resource: str) -> Mapping[str, str]:
            return claims(await entra.token(resource))

        tools = Tools(
            clusters=clusters,
            identities=AzureIdentities(arm),
            access=Access(onboarding, clusters),
            fleet=fleet,
            refresher=refresher,
            hubs=settings.hubs,
            app=app_claims,
            authority_host=settings.authority_host,
            clock=clock,
        )
        operations = Operations(tables, settings.trusted_hosts)
        connections = AsyncExitStack()
        for client in (entra, onboarding, tables, queues):
            connections.push_async_callback(client.close)
        return cls(
            fleet=fleet,
            scheduler=Scheduler(fleet, Queue(queues, REFRESH), clock),
            refresher=refresher,
            onboarder=Onboarder(operations, Queue(queues, ONBOARDING), tools, settings.allowed_scopes, clock),
            overview=Overview(fleet, clock),
            handover=partial(fleet_handover, tools),
            settings=settings,
            _connections=connections,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.aclose()


@cache
def services() -> Services:
    """Return the services of this process. They are closed when the event loop that called first ends in order."""
    built = Services.build(os.environ, lambda: datetime.now(UTC))
    _closing.append(asyncio.get_running_loop().create_task(_close_with_loop(built)))
    return built


_closing: list[asyncio.Task[None]] = []


async def _close_with_loop(built: Services) -> None:
    """Close the services when the task is cancelled: the platform does not announce its end, but an event loop that
    ends cancels the tasks that still run.
    """
    try:
        await asyncio.Event().wait()
    finally:
        await built.close()
