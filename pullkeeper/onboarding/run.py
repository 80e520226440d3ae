"""Use case: run an operation, phase by phase, in slices that end well before the host would end them.

Each slice is one message on the queue `onboarding`. At its end an operation that has not ended is saved with the time
at which its next message is due, and sends itself that message with a delay: to wait for a service that is throttling
or for a change under way, to try again after a failure, or to continue where the time of one invocation was not enough.
Waiting takes no try and keeps no place. Tries are counted in the operation's row; the queue's own count is left for
crashes.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Final

from pullkeeper.azure.quotas import take_turns
from pullkeeper.deadline import INVOCATION, deadline, remaining, reserve
from pullkeeper.errors import ArmDenied, ArmUnavailable, ClusterUnreachable, InternalError, PullkeeperError
from pullkeeper.model import ClusterId, selectors_in
from pullkeeper.onboarding.documents import FINAL_STATUSES, Onboarding, OnboardingMessage, Operation
from pullkeeper.onboarding.messages import MOST_TRIES, Messages
from pullkeeper.onboarding.operations import ChangedByAnother, Operations
from pullkeeper.onboarding.phases import IN_AZURE, IN_CLUSTER, OFFBOARD, ONBOARD, handover, is_instant
from pullkeeper.onboarding.progress import Progress
from pullkeeper.onboarding.rows import StoredOperation
from pullkeeper.onboarding.work import AwaitingFederation, OutOfTime, Phase, Tools, Work
from pullkeeper.retries import limit_waits

_PLACES: Final = 8
"""Operations that a process works on at the same time, however many messages the host gives it: an instance may have
512 MB and one CPU, and refreshes need them too.
"""
_PLACE_WITHIN: Final = timedelta(seconds=120)
LONGEST: Final = _PLACE_WITHIN + INVOCATION
"""Of an invocation. It stays below host.json's `functionTimeout`."""
_PUT_BACK: Final = timedelta(minutes=1)
_RESERVE: Final = timedelta(seconds=30)
"""Of each invocation: time to save how a slice ended."""
_RETRY_AFTER: Final = timedelta(seconds=30)
_IN_PLACE: Final = timedelta(seconds=2)
"""The longest wait before a call is made again. A longer one gives the place to another operation."""
_PAUSE, _LONGEST_PAUSE = timedelta(seconds=15), timedelta(minutes=5)
"""Between two tries of an operation that waits. A service may ask for a longer one."""


class Runner:
    """Runs the operations whose messages are on the queue."""

    def __init__(self, operations: Operations, messages: Messages, tools: Tools, longest_wait: timedelta) -> None:
        """longest_wait: from when an operation first has to wait until it fails."""
        self._operations = operations
        self._messages = messages
        self._tools = tools
        self._longest_wait = longest_wait
        self._places = asyncio.Semaphore(_PLACES)

    async def run(self, message: OnboardingMessage) -> Operation:
        """Run one slice of an operation, once there is a place: first come, first served. A message that gets none in
        time goes back to the queue.

        A message that is not the one that the operation waits for finds nothing to do: delivered twice, or late after a
        crash. Raises NotInFleet for an unknown operation, StorageUnavailable.
        """
        try:
            async with asyncio.timeout(_PLACE_WITHIN.total_seconds()):
                await self._places.acquire()
        except TimeoutError:
            await self._messages.put(message, _PUT_BACK)
            return (await self._operations.load(message.operation)).operation
        try:
            return await self._run(message)
        finally:
            self._places.release()

    async def _run(self, message: OnboardingMessage) -> Operation:
        """The phases begin at the first; those that are done find their work done."""
        stored = await self._operations.load(message.operation)
        if stored.operation.status in FINAL_STATUSES or message.turn != stored.turn:
            return stored.operation
        cluster = stored.operation.cluster
        progress = Progress(self._operations, stored, _phases(stored.operation), self._tools.clock)
        try:
            latest, onboardings = await self._operations.read_cluster(stored)
            if latest != stored.operation.id:
                return await progress.end_superseded()
            return await self._run_slice(stored, onboardings, progress)
        except ChangedByAnother:
            await self._remove_if_offboarded(cluster)
            return (await self._operations.load(message.operation)).operation

    async def give_up(self, message: OnboardingMessage) -> None:
        """End an operation whose message crashed the app at every delivery. Raises NotInFleet."""
        stored = await self._operations.load(message.operation)
        if stored.operation.status not in FINAL_STATUSES and message.turn == stored.turn:
            with suppress(ChangedByAnother):
                await self._progress(stored).end_interrupted()

    async def _run_slice(
        self, stored: StoredOperation, onboardings: Sequence[tuple[Operation, Onboarding]], progress: Progress
    ) -> Operation:
        work, turns = None, {*stored.turns}
        try:
            async with AsyncExitStack() as exit_stack, _slice():
                exit_stack.enter_context(take_turns(turns))
                work = await self._prepare(stored, onboardings, exit_stack)
                await _run_phases(stored.operation, work, progress)
            return await progress.end("Succeeded", work)
        except AwaitingFederation as e:
            progress.finish(handover, str(e))
            return await progress.end("AwaitingFederation", work)
        except OutOfTime:
            if work and work.progressed:
                return await self._messages.send(await progress.pause("continues in the next invocation", **work.kept))
            return await self._fail(_too_slow(progress), stored, progress, work)
        except PullkeeperError as e:
            end = self._wait if e.is_wait else self._fail
            return await end(e, replace(stored, turns=frozenset(turns)), progress, work)
        except ChangedByAnother:
            raise
        except Exception as e:
            await progress.fail(InternalError(f"unexpected {type(e).__name__}: a bug; the log has its traceback"), work)
            raise

    async def _wait(
        self, reason: PullkeeperError, stored: StoredOperation, progress: Progress, work: Work | None
    ) -> Operation:
        """Come back later, without using a try. Where the operation has no time of its own, its waits grow with the
        time that it has waited for already, and differ from those of others.
        """
        now, quota = self._tools.clock(), reason.context.get("quota")
        since = stored.waiting_since or now
        until = since + self._longest_wait
        delay = reason.retry_after or timedelta()
        if quota is None:
            delay = max(delay, min((now - since) / 4, _LONGEST_PAUSE), _PAUSE) * random.uniform(1, 1.5)  # noqa: S311
        due = now + delay
        if due > until:
            return await progress.fail(await self._add_context(reason, stored), work)
        detail = f"waiting: {reason.detail}; next try at {due:%H:%M:%SZ}, until {until:%Y-%m-%d %H:%MZ} at most"
        turns = stored.turns | {quota} if quota else stored.turns
        known = work.kept if work else {}
        waiting = await progress.pause(detail, delay, waiting_since=since, turns=turns, **known)
        return await self._messages.send(waiting)

    async def _fail(
        self, error: PullkeeperError, stored: StoredOperation, progress: Progress, work: Work | None
    ) -> Operation:
        """End the operation, unless another try can help and is left."""
        error = await self._add_context(error, stored)
        if not error.retryable or stored.tries + 1 >= MOST_TRIES:
            return await progress.fail(error, work)
        delay = max(_RETRY_AFTER, error.retry_after or timedelta())
        return await self._messages.send(await progress.retry(error, delay))

    async def _prepare(
        self, stored: StoredOperation, onboardings: Sequence[tuple[Operation, Onboarding]], exit_stack: AsyncExitStack
    ) -> Work:
        """Raises InvalidRequest if the settings no longer allow the request."""
        requests = [request for operation, request in onboardings if operation.id != stored.operation.id]
        if stored.operation.keep_workload:
            requests = [request.model_copy(update={"workload": None}) for request in requests]
        listed = any(operation.id == stored.operation.id for operation, _ in onboardings)
        request = self._operations.parse_request(stored)
        if stored.operation.kind == "onboard" or listed:
            requests.append(request)
        found: frozenset[str] = frozenset()
        if stored.operation.kind == "offboard" and any(selectors_in(one.targets) for one in requests):
            # The first phase removes the cluster from the fleet, and with it what is known of these.
            found = await self._tools.fleet.list_found(stored.operation.cluster)
            found = await self._operations.add_found(stored.operation.cluster, found)
        issuers = (operation.result.issuer for operation, _ in reversed(onboardings) if operation.result)
        return Work(
            request=request,
            requests=tuple(requests),
            tools=self._tools,
            exit_stack=exit_stack,
            dry_run=stored.operation.dry_run,
            failed_steps=frozenset(step.name for step in stored.operation.steps if step.category),
            issuer=next(filter(None, issuers), None),
            facts=stored.facts,
            endpoint=stored.endpoint,
            principals=stored.principals,
            update_requested=stored.update_requested,
            found_targets=found,
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
    with deadline(), reserve(_RESERVE), limit_waits(_IN_PLACE):
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
            progress.skip(phase, "skipped: the app cannot reach the cluster")
            continue
        await progress.start(phase, saved=not is_instant(phase, work))
        work.stop_if_late()
        progress.finish(phase, await _run_phase(phase, work, operation))


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
    return ArmUnavailable(detail) if in_azure else ClusterUnreachable(detail)
