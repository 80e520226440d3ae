"""Use case: onboard and offboard clusters, as operations that are worked off from a queue, phase by phase."""

import logging
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from pullkeeper import telemetry
from pullkeeper.errors import ArmDenied, Forbidden, InvalidRequest, NotInFleet, OperationRunning, PullkeeperError
from pullkeeper.fleet.queues import Queue
from pullkeeper.model import ClusterId
from pullkeeper.onboarding.documents import ENDED, Kind, Onboarding, OnboardingMessage, Operation
from pullkeeper.onboarding.operations import Job, Operations, Overtaken
from pullkeeper.onboarding.phases import (
    cluster_access,
    federated_credential,
    handover,
    identity,
    inspect_cluster,
    manifests,
    pull_secret,
    refresher,
    register,
    retire,
    workload,
)
from pullkeeper.onboarding.progress import Progress
from pullkeeper.onboarding.work import AwaitingFederation, Phase, Tools, Work

ONBOARD: Final[tuple[Phase, ...]] = (
    inspect_cluster,
    identity,
    federated_credential,
    handover,
    cluster_access,
    manifests,
    refresher,
    pull_secret,
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
    pull_secret,
    manifests,
    federated_credential,
    identity,
)
"""The fleet first, and before the secret whoever may write it, so that nobody makes anew what goes."""
_IN_CLUSTER: Final = frozenset({retire, workload, refresher, pull_secret, manifests})
_MOVES: Final = {"Queued": timedelta(minutes=1), "Running": timedelta(minutes=12)}
"""How soon an operation moves that somebody works on: a host that was killed gives its message back after ten minutes,
and no step takes five.
"""


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

    async def offboard(self, cluster: ClusterId, *, keep_workload: bool, dry_run: bool = False) -> Operation:
        """Undo all that onboardings have made since the cluster was last offboarded. Raises as above, and NotInFleet
        for a cluster that was never onboarded: what bears our label there is somebody else's Pullkeeper's.
        """
        self._admit(cluster)
        request = Onboarding(cluster=cluster, dry_run=dry_run)
        last = await self._operations.last(cluster)
        lost = not (last and last.kind == "offboard") and not await self._operations.onboardings(cluster)
        if lost:
            member = (await self._tools.fleet.member(cluster)).cluster
            request = request.model_copy(update={"targets": member.targets, "refresher": member.refresher})
        return await self._begin("offboard", request, keep_workload=keep_workload, undoes_its_own=lost)

    async def operation(self, identifier: str) -> Operation:
        return (await self._operations.job(identifier)).operation

    async def work_on(self, identifier: str) -> Operation:
        """Work an operation off, from its first phase on: what is done already is found done.

        Raises the first failure that another try can mend, after noting it, so that the queue tries again. A queue
        delivers twice now and then, and late: what has ended stays as it is, what was taken for abandoned ends, and of
        two at once the one that wrote last goes on.
        """
        job = await self._operations.job(identifier)
        if job.operation.status in ENDED:
            return job.operation
        phases = ONBOARD if job.operation.kind == "onboard" else OFFBOARD
        progress = Progress(self._operations, job, phases, self._clock)
        try:
            last = await self._operations.last(job.operation.cluster)
            if last is None or last.id != job.operation.id:
                return await progress.overtaken()
            async with AsyncExitStack() as opened:
                return await self._worked_off(job, phases, progress, opened)
        except Overtaken:
            await self._withdraw(job.operation.cluster)
            return await self.operation(identifier)

    async def give_up(self, identifier: str) -> None:
        """The queue has: the operation has failed, for the reason that its last step tells."""
        try:
            job = await self._operations.job(identifier)
        except NotInFleet as e:
            told = {"category": e.category, "detail": e.detail, "remedy": e.remedy, "operation": identifier}
            telemetry.emit("message.poisoned", told, logging.ERROR)
            return
        if job.operation.status not in ENDED:
            with suppress(Overtaken):  # somebody works on it all the same
                await Progress(self._operations, job, (), self._clock).cut_off()

    async def _worked_off(
        self, job: Job, phases: tuple[Phase, ...], progress: Progress, opened: AsyncExitStack
    ) -> Operation:
        work, offboarding = None, job.operation.kind == "offboard"
        try:
            work = await self._prepared(job, opened)
            for phase in phases:
                if offboarding and not work.reachable and phase in _IN_CLUSTER:
                    await progress.skipped(phase, "cannot be done in the cluster")
                    continue
                await progress.at(phase)
                await progress.done(phase, await self._carried_out(phase, work, job.operation))
        except AwaitingFederation as e:
            await progress.done(handover, str(e))
            return await progress.end("AwaitingFederation", work)
        except PullkeeperError as e:
            ended = await progress.failed(await self._placed(e, job), work)
            if e.retryable:
                raise
            return ended
        return await progress.end("Succeeded", work)

    async def _prepared(self, job: Job, opened: AsyncExitStack) -> Work:
        """Raises InvalidRequest for what the settings no longer allow."""
        onboardings = await self._operations.onboardings(job.operation.cluster)
        asked = [request for operation, request in onboardings if operation.id != job.operation.id]
        if job.operation.keep_workload:
            asked = [request.model_copy(update={"workload": None}) for request in asked]
        listed = any(operation.id == job.operation.id for operation, _ in onboardings)
        request = self._operations.request(job)
        if job.operation.kind == "onboard" or listed:
            asked.append(request)
        issuers = (operation.result.issuer for operation, _ in reversed(onboardings) if operation.result)
        return Work(
            request=request,
            asked=tuple(asked),
            tools=self._tools,
            opened=opened,
            dry=job.operation.dry_run,
            failed=frozenset(step.name for step in job.operation.steps if step.category),
            issuer=next(filter(None, issuers), None),
        )

    async def _placed(self, error: PullkeeperError, job: Job) -> PullkeeperError:
        """Told with the cluster, and with whose right is missing: the refresher's own denials know that already."""
        known = {"cluster": str(job.operation.cluster)}
        if isinstance(error, ArmDenied):
            known["principal"] = await self._tools.access.principal()
        return error.within(**known)

    @staticmethod
    async def _carried_out(phase: Phase, work: Work, operation: Operation) -> str:
        if operation.kind == "offboard":
            told = await phase.undo(work)
            return f"would be so: {told}" if work.dry else told
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

    async def _begin(
        self, kind: Kind, request: Onboarding, *, keep_workload: bool = False, undoes_its_own: bool = False
    ) -> Operation:
        now = self._clock()
        operation = Operation(
            id=uuid.uuid4().hex,
            kind=kind,
            cluster=request.cluster,
            dry_run=request.dry_run,
            keep_workload=keep_workload,
            created_at=now,
            updated_at=now,
        )
        try:
            job = await self._operations.begin(operation, request, now, undoes_its_own=undoes_its_own)
        except OperationRunning:
            await self._remind(request.cluster)
            raise
        try:
            await self._queue.put(OnboardingMessage(operation=operation.id))
        except PullkeeperError:
            await Progress(self._operations, job, (), self._clock).end("Failed", None)
            raise
        return operation

    async def _withdraw(self, cluster: ClusterId) -> None:
        """What was overtaken by an offboarding may just have put the cluster back into the fleet."""
        last = await self._operations.last(cluster)
        if last and last.kind == "offboard" and not last.dry_run:
            await self._tools.fleet.remove(cluster)

    async def _remind(self, cluster: ClusterId) -> None:
        """Whoever began what has not moved for so long may have died before its message was sent, or with it."""
        last = await self._operations.last(cluster)
        if last and last.status not in ENDED and self._clock() - last.updated_at > _MOVES[last.status]:
            job, moved = await self._operations.job(last.id), last.model_copy(update={"updated_at": self._clock()})
            with suppress(Overtaken):  # it moves
                if job.operation == last:
                    await self._operations.save(replace(job, operation=moved))
                    await self._queue.put(OnboardingMessage(operation=last.id))
