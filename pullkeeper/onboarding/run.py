"""Use case: run an operation, phase by phase, in slices that end well before the host would end them.

Each slice is one message on the queue `onboarding`. At its end an operation that has not ended is saved with the time
at which its next message is due, and sends itself that message with a delay: to wait for Azure, to try again after a
failure, or to continue where the time of one invocation was not enough. Waiting takes no try. Tries are counted in the
operation's row; the queue's own count is left for crashes.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Final

from pullkeeper.deadline import INVOCATION, deadline, has_passed, remaining, reserve
from pullkeeper.errors import (
    ArmDenied,
    ArmThrottled,
    ClusterChanging,
    ClusterUnreachable,
    InternalError,
    NotInFleet,
    PullkeeperError,
)
from pullkeeper.fleet.queues import Queue
from pullkeeper.model import ClusterId
from pullkeeper.onboarding.documents import FINAL_STATUSES, OnboardingMessage, Operation
from pullkeeper.onboarding.operations import ChangedByAnother, Operations
from pullkeeper.onboarding.phases import IN_AZURE, IN_CLUSTER, OFFBOARD, ONBOARD, handover
from pullkeeper.onboarding.progress import Progress
from pullkeeper.onboarding.rows import StoredOperation
from pullkeeper.onboarding.work import AwaitingFederation, OutOfTime, Phase, Tools, Work

_RESERVE: Final = timedelta(seconds=30)
"""Of each invocation: time to save how a slice ended."""
_MOST_TRIES: Final = 5
_RETRY_AFTER: Final = timedelta(seconds=30)
_LOOK_AFTER: Final = timedelta(seconds=30)
"""Between two looks at a cluster that Azure is changing."""
_LONGEST_WAIT: Final = timedelta(hours=1)
"""For Azure to change a cluster. Enabling workload identity takes up to 20 minutes."""
_STALLED_AFTER: Final = INVOCATION + timedelta(seconds=30)
"""Without a change for this time, an operation has lost its process; or, after it was due, its message."""


class Runner:
    """Runs the operations whose messages are on the queue."""

    def __init__(self, operations: Operations, queue: Queue, tools: Tools) -> None:
        self._operations = operations
        self._queue = queue
        self._tools = tools

    async def run(self, message: OnboardingMessage) -> Operation:
        """Run one slice of an operation. Its phases begin at the first; those that are done find their work done.

        A message that is not the one that the operation waits for finds nothing to do: delivered twice, or late after a
        crash. Raises NotInFleet for an unknown operation, StorageUnavailable.
        """
        stored = await self._operations.load(message.operation)
        if stored.operation.status in FINAL_STATUSES or message.turn != stored.turn:
            return stored.operation
        cluster = stored.operation.cluster
        progress = Progress(self._operations, stored, _phases(stored.operation), self._tools.clock)
        try:
            latest = await self._operations.latest(cluster)
            if latest is None or latest.id != stored.operation.id:
                return await progress.end_superseded()
            return await self._run_slice(stored, progress)
        except ChangedByAnother:
            await self._remove_if_offboarded(cluster)
            return (await self._operations.load(message.operation)).operation

    async def give_up(self, message: OnboardingMessage) -> None:
        """End an operation whose message crashed the app at every delivery. Raises NotInFleet."""
        stored = await self._operations.load(message.operation)
        if stored.operation.status not in FINAL_STATUSES and message.turn == stored.turn:
            with suppress(ChangedByAnother):
                await self._progress(stored).end_interrupted()

    async def resume_stalled(self) -> None:
        """Send the messages of operations again that stand still. The timer calls it: the host gives the message of a
        crashed invocation back only after ten minutes. Costs one query, and a read for each operation that runs.
        """
        with reserve(_RESERVE):
            for identifier in await self._operations.list_running():
                if has_passed():
                    return
                await self.resume(identifier)

    async def resume(self, identifier: str) -> None:
        """Send the message of an operation again if it stands still. A crash counts as a try."""
        try:
            stored = await self._operations.load(identifier)
        except NotInFleet:
            await self._operations.forget_running(identifier)
            return
        now, interrupted = self._tools.clock(), stored.due is None
        if stored.operation.status in FINAL_STATUSES:
            await self._operations.forget_running(identifier)
        elif now - stored.active_until > _STALLED_AFTER:
            with suppress(ChangedByAnother):
                if interrupted and stored.tries + 1 >= _MOST_TRIES:
                    await self._progress(stored).end_interrupted()
                    return
                operation = stored.operation.model_copy(update={"updated_at": now})
                changed = replace(stored, operation=operation, due=now, tries=stored.tries + interrupted)
                await self.send(await self._operations.save(changed))

    async def send(self, stored: StoredOperation) -> Operation:
        """Send the message that continues an operation when it is due, or at once if it is overdue."""
        now = self._tools.clock()
        delay = max((stored.due or now) - now, timedelta())
        await self._queue.put(OnboardingMessage(operation=stored.operation.id, turn=stored.turn), delay)
        return stored.operation

    async def _run_slice(self, stored: StoredOperation, progress: Progress) -> Operation:
        work = None
        try:
            async with AsyncExitStack() as exit_stack, _slice():
                work = await self._prepare(stored, exit_stack)
                await _run_phases(stored.operation, work, progress)
            return await progress.end("Succeeded", work)
        except AwaitingFederation as e:
            await progress.finish(handover, str(e))
            return await progress.end("AwaitingFederation", work)
        except OutOfTime:
            if work and work.progressed:
                return await self.send(await progress.pause("continues in the next invocation", waiting_since=None))
            return await self._fail(_too_slow(progress), stored, progress, work)
        except ClusterChanging as e:
            return await self._wait(e, stored, progress, work)
        except PullkeeperError as e:
            return await self._fail(e, stored, progress, work)
        except ChangedByAnother:
            raise
        except Exception as e:
            await progress.fail(InternalError(f"unexpected {type(e).__name__}: a bug; the log has its traceback"), work)
            raise

    async def _wait(
        self, reason: ClusterChanging, stored: StoredOperation, progress: Progress, work: Work | None
    ) -> Operation:
        now = self._tools.clock()
        since = stored.waiting_since or now
        until = since + _LONGEST_WAIT
        if now >= until:
            return await progress.fail(await self._add_context(reason, stored), work)
        detail = f"waiting: {reason.detail}; next look at {now + _LOOK_AFTER:%H:%M:%SZ}, until {until:%H:%MZ} at most"
        requested = stored.update_requested or bool(work and work.update_requested)
        waiting = await progress.pause(detail, _LOOK_AFTER, waiting_since=since, update_requested=requested)
        return await self.send(waiting)

    async def _fail(
        self, error: PullkeeperError, stored: StoredOperation, progress: Progress, work: Work | None
    ) -> Operation:
        """End the operation, unless another try can help and is left."""
        error = await self._add_context(error, stored)
        if not error.retryable or stored.tries + 1 >= _MOST_TRIES:
            return await progress.fail(error, work)
        delay = max(_RETRY_AFTER, error.retry_after or timedelta())
        return await self.send(await progress.retry(error, delay))

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
            update_requested=stored.update_requested,
        )

    async def _add_context(self, error: PullkeeperError, stored: StoredOperation) -> PullkeeperError:
        """Add the cluster to a failure, and to a denial by Azure the identity that was denied."""
        known = {"cluster": str(stored.operation.cluster)}
        if isinstance(error, ArmDenied):
            known["principal"] = await self._tools.access.principal()
        return error.with_context(**known)

    async def _remove_if_offboarded(self, cluster: ClusterId) -> None:
        """An onboarding that an offboarding has replaced may just have put the cluster back into the fleet."""
        latest = await self._operations.latest(cluster)
        if latest and latest.kind == "offboard" and not latest.dry_run:
            await self._tools.fleet.remove(cluster)

    def _progress(self, stored: StoredOperation) -> Progress:
        """Keep the steps as they were saved, if there are any."""
        phases = () if stored.operation.steps else _phases(stored.operation)
        return Progress(self._operations, stored, phases, self._tools.clock)


@asynccontextmanager
async def _slice() -> AsyncIterator[None]:
    """Limit the work of one invocation, and leave the reserve for what follows. Raises OutOfTime."""
    with deadline(), reserve(_RESERVE):
        limit = asyncio.timeout(remaining(INVOCATION.total_seconds()))
        try:
            async with limit:
                yield
        except TimeoutError:
            if limit.expired():
                raise OutOfTime from None
            raise


async def _run_phases(operation: Operation, work: Work, progress: Progress) -> None:
    for phase in _phases(operation):
        if operation.kind == "offboard" and not work.reachable and phase in IN_CLUSTER:
            await progress.skip(phase, "skipped: the app cannot reach the cluster")
            continue
        await progress.start(phase)
        work.stop_if_late()
        await progress.finish(phase, await _run_phase(phase, work, operation))


async def _run_phase(phase: Phase, work: Work, operation: Operation) -> str:
    if operation.kind == "offboard":
        detail = await phase.undo(work)
        return f"dry run: {detail}" if work.dry_run else detail
    return await phase.plan(work) if operation.dry_run else await phase.do(work)


def _phases(operation: Operation) -> tuple[Phase, ...]:
    return ONBOARD if operation.kind == "onboard" else OFFBOARD


def _too_slow(progress: Progress) -> PullkeeperError:
    """Return the failure that stands for a slice whose time was not enough to change anything."""
    name = progress.running_step
    detail = f"responses were too slow for this step to be done within {INVOCATION.total_seconds():.0f} s"
    in_azure = name in {phase.NAME for phase in IN_AZURE}
    return ArmThrottled(detail) if in_azure else ClusterUnreachable(detail)
