"""Use case: onboard and offboard clusters, as operations that are worked off from a queue, phase by phase."""

import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Final

from pullkeeper.errors import ArmDenied, Forbidden, InvalidRequest, PullkeeperError
from pullkeeper.model import ClusterId
from pullkeeper.onboarding import (
    cluster_access,
    federated_credential,
    first_secret,
    handover,
    identity,
    inspect_cluster,
    objects,
    refresher,
    register,
    retire,
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
    refresher,
    first_secret,
    register,
    workload,
    retire,
)
OFFBOARD: Final[tuple[Phase, ...]] = (
    register,
    inspect_cluster,
    handover,
    cluster_access,
    retire,
    workload,
    refresher,
    first_secret,
    objects,
    federated_credential,
    identity,
)
"""The fleet first, and before the secret whoever may write it, so that nobody makes anew what goes."""
_IN_CLUSTER: Final = frozenset({retire, workload, refresher, first_secret, objects})


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
        """Undo all that onboardings have made since the cluster was last offboarded. Also of a cluster that was never
        onboarded: what the defaults would make is looked for. Raises as above.
        """
        self._admit(cluster)
        return await self._begin("offboard", Onboarding(cluster=cluster), keep_workload=keep_workload)

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
        async with AsyncExitStack() as opened:
            work = await self._prepared(job, opened)
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
                await progress.failed(await self._placed(e, job), work)
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

    async def _prepared(self, job: Job, opened: AsyncExitStack) -> Work:
        """Offboarding undoes what was asked, and looks for what the defaults would make where nothing was."""
        onboardings = await self._operations.onboardings(job.operation.cluster)
        earlier = [one.request for one in onboardings if one.operation.id != job.operation.id]
        if job.operation.keep_workload:
            earlier = [request.model_copy(update={"workload": None}) for request in earlier]
        if job.operation.kind == "onboard" or not earlier:
            earlier.append(job.request)
        results = [one.operation.result for one in onboardings if one.operation.result]
        issuer = next((result.issuer for result in reversed(results) if result.issuer), None)
        return Work(earlier[-1], tuple(earlier), self._tools, opened, job.operation.created_at, issuer)

    async def _placed(self, error: PullkeeperError, job: Job) -> PullkeeperError:
        """Told with the cluster, and with whose right is missing: the refresher's own denials know that already."""
        known = {"cluster": str(job.request.cluster)}
        if isinstance(error, ArmDenied):
            known["principal"] = await self._tools.access.principal()
        return error.within(**known)

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

    async def _begin(self, kind: str, request: Onboarding, *, keep_workload: bool = False) -> Operation:
        now = self._clock()
        operation = Operation.model_validate(
            {
                "id": uuid.uuid4().hex,
                "kind": kind,
                "cluster": request.cluster,
                "dry_run": request.dry_run,
                "keep_workload": keep_workload,
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
