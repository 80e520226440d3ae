"""Use case: onboard and offboard clusters, as operations that are worked off from a queue, phase by phase."""

import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Final

from pullkeeper.errors import Forbidden, InvalidRequest, PullkeeperError
from pullkeeper.model import ClusterId
from pullkeeper.onboarding import (
    cluster_access,
    federated_credential,
    first_secret,
    handover,
    identity,
    inspect_cluster,
    objects,
    register,
    retire_cron_job,
    workload,
)
from pullkeeper.onboarding.documents import (
    ENDED,
    Onboarding,
    OnboardingMessage,
    Operation,
)
from pullkeeper.onboarding.progress import Progress
from pullkeeper.onboarding.work import AwaitingFederation, Phase, Tools, Work
from pullkeeper.operations import Job, Operations
from pullkeeper.queues import Queue

ONBOARD: Final[tuple[Phase, ...]] = (
    inspect_cluster,
    identity,
    federated_credential,
    handover,
    cluster_access,
    objects,
    first_secret,
    register,
    workload,
    retire_cron_job,
)
OFFBOARD: Final[tuple[Phase, ...]] = (
    register,
    inspect_cluster,
    handover,
    cluster_access,
    retire_cron_job,
    workload,
    first_secret,
    objects,
    federated_credential,
    identity,
)
"""The fleet first, so that no refresh makes anew what goes; then from the inside out."""
_IN_CLUSTER: Final = frozenset({retire_cron_job, workload, first_secret, objects})


class Onboarder:
    """allowed: subscriptions and resource groups (resource ids) whose clusters may be onboarded."""

    def __init__(
        self,
        operations: Operations,
        queue: Queue,
        tools: Tools,
        allowed: frozenset[str],
        clock: Callable[[], datetime],
    ) -> None:
        self._operations = operations
        self._queue = queue
        self._tools = tools
        self._allowed = allowed
        self._clock = clock

    async def onboard(self, request: Onboarding) -> Operation:
        """Raises Forbidden, InvalidRequest, OperationRunning, StorageUnavailable."""
        self._admit(request.cluster)
        wanted = request.wanted_hub()
        if isinstance(wanted, str) and wanted not in self._tools.hubs:
            raise InvalidRequest("hub: there is none of that name in the setting HUBS")
        return await self._begin("onboard", request)

    async def offboard(self, cluster: ClusterId, *, keep_workload: bool) -> Operation:
        """Also of a cluster that was never onboarded: what the defaults would make is looked for. Raises as above."""
        self._admit(cluster)
        last = await self._operations.last_onboarding(cluster)
        request = last.request if last else Onboarding(cluster=cluster)
        # Whether there is a workload to take away is what the request then says.
        return await self._begin("offboard", request.model_copy(update={"workload": None} if keep_workload else {}))

    async def operation(self, identifier: str) -> Operation:
        return (await self._operations.job(identifier)).operation

    async def work_on(self, identifier: str) -> Operation:
        """Work an operation off, from its first phase on: what is done already is found done.

        Raises the first failure that another try can mend, after noting it, so that the queue tries again. A queue
        delivers twice now and then, and late: what has ended stays as it is, and what was taken for abandoned ends.
        """
        job = await self._operations.job(identifier)
        if job.operation.status in ENDED:
            return job.operation
        phases = ONBOARD if job.operation.kind == "onboard" else OFFBOARD
        progress = Progress(self._operations, job, phases, self._clock)
        if not await self._operations.is_last(job):
            return await progress.overtaken()
        before = await self._operations.last_onboarding(job.operation.cluster)
        async with AsyncExitStack() as opened:
            work = Work(job.request, self._tools, opened, job.operation.created_at)
            work.issuer = before.operation.result.issuer if before and before.operation.result else None
            try:
                for phase in phases:
                    if not work.reachable and phase in _IN_CLUSTER and job.operation.kind == "offboard":
                        await progress.skipped(phase, "cannot be done in the cluster")
                        continue
                    await progress.at(phase)
                    await progress.done(phase, await self._carried_out(phase, work, job.operation), job.operation)
            except AwaitingFederation as e:
                await progress.done(phase, str(e), job.operation)
                return await progress.end("AwaitingFederation", work)
            except PullkeeperError as e:
                await progress.failed(e.within(cluster=str(job.request.cluster)), work)
                if e.retryable:
                    raise
                return progress.operation
            return await progress.end("Succeeded", work)

    async def give_up(self, identifier: str) -> None:
        """The queue has: the operation has failed, for the reason that its last step tells."""
        job = await self._operations.job(identifier)
        if job.operation.status in ENDED:
            return
        progress = Progress(self._operations, job, (), self._clock)
        await progress.cut_off()
        await progress.end("Failed", None)

    @staticmethod
    async def _carried_out(phase: Phase, work: Work, operation: Operation) -> str:
        if operation.kind == "offboard":
            return await phase.undo(work)
        return await phase.plan(work) if operation.dry_run else await phase.do(work)

    def _admit(self, cluster: ClusterId) -> None:
        scopes = {
            f"/subscriptions/{cluster.subscription}",
            f"/subscriptions/{cluster.subscription}/resourcegroups/{cluster.resource_group}",
        }
        if not scopes & self._allowed:
            raise Forbidden(
                "neither the cluster's subscription nor its resource group is in the setting ONBOARDING_SCOPES",
                {"cluster": str(cluster)},
            )

    async def _begin(self, kind: str, request: Onboarding) -> Operation:
        now = self._clock()
        operation = Operation.model_validate(
            {
                "id": uuid.uuid4().hex,
                "kind": kind,
                "cluster": request.cluster,
                "dry_run": request.dry_run,
                "created_at": now,
                "updated_at": now,
            }
        )
        await self._operations.begin(Job(operation, request), now)
        try:
            await self._queue.put(OnboardingMessage(operation=operation.id))
        except PullkeeperError:
            ended = operation.model_copy(update={"status": "Failed"})
            await self._operations.save(Job(ended, request))
            raise
        return operation
