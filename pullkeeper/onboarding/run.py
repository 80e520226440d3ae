"""Use case: onboard and offboard clusters. An operation is queued, and runs phase by phase."""

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
from pullkeeper.onboarding.documents import FINAL_STATUSES, Kind, Onboarding, OnboardingMessage, Operation
from pullkeeper.onboarding.operations import ChangedByAnother, Operations, StoredOperation
from pullkeeper.onboarding.phases import IN_CLUSTER, OFFBOARD, ONBOARD, handover
from pullkeeper.onboarding.progress import Progress
from pullkeeper.onboarding.work import AwaitingFederation, Phase, Tools, Work

_STALLED: Final = {"Queued": timedelta(minutes=1), "Running": timedelta(minutes=12)}
"""An operation without a change for this time has lost its message or its process."""


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
        self._check_scope(request.cluster)
        wanted = request.wanted_hub()
        if isinstance(wanted, str) and wanted not in self._tools.hubs:
            raise InvalidRequest("hub: the setting HUBS has no hub of that name")
        return await self._begin("onboard", request)

    async def offboard(self, cluster: ClusterId, *, keep_workload: bool, dry_run: bool = False) -> Operation:
        """Undo all onboardings since the cluster was last offboarded. Raises as `onboard`, and NotInFleet for a cluster
        that was never onboarded: objects with our label there belong to another Pullkeeper.
        """
        self._check_scope(cluster)
        request = Onboarding(cluster=cluster, dry_run=dry_run)
        last = await self._operations.latest(cluster)
        unknown = not (last and last.kind == "offboard") and not await self._operations.list_onboardings(cluster)
        if unknown:
            member = (await self._tools.fleet.member(cluster)).cluster
            request = request.model_copy(update={"targets": member.targets, "refresher": member.refresher})
        return await self._begin("offboard", request, keep_workload=keep_workload, undo_own_request=unknown)

    async def get_operation(self, identifier: str) -> Operation:
        return (await self._operations.load(identifier)).operation

    async def run(self, identifier: str) -> Operation:
        """Run all phases of an operation; those that are done already find their work done.

        Raises the first retryable failure after recording it, so that the queue tries again. Messages may be delivered
        twice and late: an operation that has ended stays as it is, an abandoned one ends, and of two invocations at
        once the one that wrote last goes on.
        """
        stored = await self._operations.load(identifier)
        if stored.operation.status in FINAL_STATUSES:
            return stored.operation
        phases = ONBOARD if stored.operation.kind == "onboard" else OFFBOARD
        progress = Progress(self._operations, stored, phases, self._clock)
        try:
            last = await self._operations.latest(stored.operation.cluster)
            if last is None or last.id != stored.operation.id:
                return await progress.end_superseded()
            async with AsyncExitStack() as exit_stack:
                return await self._run_phases(stored, phases, progress, exit_stack)
        except ChangedByAnother:
            await self._remove_from_fleet(stored.operation.cluster)
            return await self.get_operation(identifier)

    async def give_up(self, identifier: str) -> None:
        """End an operation whose message the queue has given up. Its failed step says why."""
        try:
            stored = await self._operations.load(identifier)
        except NotInFleet as e:
            failure = {"category": e.category, "detail": e.detail, "remedy": e.remedy, "operation": identifier}
            telemetry.emit("message.poisoned", failure, logging.ERROR)
            return
        if stored.operation.status not in FINAL_STATUSES:
            with suppress(ChangedByAnother):  # another invocation works on it
                await Progress(self._operations, stored, (), self._clock).end_interrupted()

    async def _run_phases(
        self, stored: StoredOperation, phases: tuple[Phase, ...], progress: Progress, exit_stack: AsyncExitStack
    ) -> Operation:
        work, offboarding = None, stored.operation.kind == "offboard"
        try:
            work = await self._prepare(stored, exit_stack)
            for phase in phases:
                if offboarding and not work.reachable and phase in IN_CLUSTER:
                    await progress.skip(phase, "cannot be done in the cluster")
                    continue
                await progress.start(phase)
                await progress.finish(phase, await self._run_phase(phase, work, stored.operation))
        except AwaitingFederation as e:
            await progress.finish(handover, str(e))
            return await progress.end("AwaitingFederation", work)
        except PullkeeperError as e:
            ended = await progress.fail(await self._add_context(e, stored), work)
            if e.retryable:
                raise
            return ended
        return await progress.end("Succeeded", work)

    async def _prepare(self, stored: StoredOperation, exit_stack: AsyncExitStack) -> Work:
        """Raises InvalidRequest if the settings no longer allow the request."""
        onboardings = await self._operations.list_onboardings(stored.operation.cluster)
        requests = [request for operation, request in onboardings if operation.id != stored.operation.id]
        if stored.operation.keep_workload:
            requests = [request.model_copy(update={"workload": None}) for request in requests]
        listed = any(operation.id == stored.operation.id for operation, _ in onboardings)
        request = self._operations.parse_request(stored)
        if stored.operation.kind == "onboard" or listed:
            requests.append(request)
        issuers = (operation.result.issuer for operation, _ in reversed(onboardings) if operation.result)
        return Work(
            request=request,
            requests=tuple(requests),
            tools=self._tools,
            exit_stack=exit_stack,
            dry_run=stored.operation.dry_run,
            failed_steps=frozenset(step.name for step in stored.operation.steps if step.category),
            issuer=next(filter(None, issuers), None),
        )

    async def _add_context(self, error: PullkeeperError, stored: StoredOperation) -> PullkeeperError:
        """Add the cluster to a failure, and to a denial by Azure the identity that was denied."""
        known = {"cluster": str(stored.operation.cluster)}
        if isinstance(error, ArmDenied):
            known["principal"] = await self._tools.access.principal()
        return error.with_context(**known)

    @staticmethod
    async def _run_phase(phase: Phase, work: Work, operation: Operation) -> str:
        if operation.kind == "offboard":
            detail = await phase.undo(work)
            return f"dry run: {detail}" if work.dry_run else detail
        return await phase.plan(work) if operation.dry_run else await phase.do(work)

    def _check_scope(self, cluster: ClusterId) -> None:
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
        self, kind: Kind, request: Onboarding, *, keep_workload: bool = False, undo_own_request: bool = False
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
            stored = await self._operations.begin(operation, request, now, undo_own_request=undo_own_request)
        except OperationRunning:
            await self._resend(request.cluster)
            raise
        try:
            await self._queue.put(OnboardingMessage(operation=operation.id))
        except PullkeeperError:
            await Progress(self._operations, stored, (), self._clock).end("Failed", None)
            raise
        return operation

    async def _remove_from_fleet(self, cluster: ClusterId) -> None:
        """An onboarding that an offboarding has replaced may just have put the cluster back into the fleet."""
        last = await self._operations.latest(cluster)
        if last and last.kind == "offboard" and not last.dry_run:
            await self._tools.fleet.remove(cluster)

    async def _resend(self, cluster: ClusterId) -> None:
        """Send the message of the cluster's operation again if it was lost."""
        last = await self._operations.latest(cluster)
        if last and last.status not in FINAL_STATUSES and self._clock() - last.updated_at > _STALLED[last.status]:
            stored, moved = await self._operations.load(last.id), last.model_copy(update={"updated_at": self._clock()})
            with suppress(ChangedByAnother):
                if stored.operation == last:
                    await self._operations.save(replace(stored, operation=moved))
                    await self._queue.put(OnboardingMessage(operation=last.id))
