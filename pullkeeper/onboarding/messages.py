"""The messages that continue operations, and those of operations that stand still: sent once, and found if lost."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from pullkeeper.deadline import INVOCATION, has_passed, reserve
from pullkeeper.errors import NotInFleet
from pullkeeper.fleet.queues import Queue
from pullkeeper.onboarding.documents import FINAL_STATUSES, OnboardingMessage, Operation
from pullkeeper.onboarding.operations import ChangedByAnother, Operations
from pullkeeper.onboarding.progress import Progress
from pullkeeper.onboarding.rows import State, StoredOperation, first_id

MOST_TRIES: Final = 5
_RESERVE: Final = timedelta(seconds=30)
_STALLED_AFTER: Final = INVOCATION + timedelta(seconds=30)
"""Without a change for this time, an operation has lost its process; or, after it was due, perhaps its message."""


class Messages:
    """Every method raises StorageUnavailable."""

    def __init__(self, operations: Operations, queue: Queue, clock: Callable[[], datetime]) -> None:
        self._operations = operations
        self._queue = queue
        self._clock = clock

    async def send(self, stored: StoredOperation) -> Operation:
        """Send the message that continues an operation when it is due, or at once if it is overdue."""
        delay = max((stored.due or self._clock()) - self._clock(), timedelta())
        await self.put(OnboardingMessage(operation=stored.operation.id, turn=stored.turn), delay)
        return stored.operation

    async def put(self, message: OnboardingMessage, delay: timedelta) -> None:
        await self._queue.put(message, delay)

    async def resume_stalled(self) -> None:
        """Send the messages of operations again that stand still. The timer calls it: the host gives the message of a
        crashed invocation back only after ten minutes.

        An operation whose message is late is mostly behind others on the queue. So as many are sent again as are
        missing there: the count of a queue includes the messages that are hidden. Costs two queries and a count.
        """
        with reserve(_RESERVE):
            running = await self._operations.list_running()
            states = await self._operations.list_states(running)
            found = {state.id for state in states}
            missing = await self._count_missing(states) if states else 0
            late = sorted((state.due, state.id) for state in states if state.due and self._is_late(state.due))
            for identifier in (
                *(identifier for identifier in running if identifier not in found),
                *(state.id for state in states if state.due is None and self._is_late(state.updated_at)),
                *(identifier for _, identifier in late[:missing]),
            ):
                if has_passed():
                    return
                try:
                    await self._resume(await self._operations.load(identifier))
                except NotInFleet:
                    if identifier > first_id(self._clock() - _STALLED_AFTER):  # a later one is being written
                        await self._operations.forget_running(identifier)

    async def resume(self, identifier: str) -> None:
        """Send the message of one operation again if it stands still, and the queue is not the reason."""
        stored = await self._operations.load(identifier)
        if stored.due is None or (self._is_late(stored.due) and await self._queue.depth() == 0):
            await self._resume(stored)

    async def _count_missing(self, states: list[State]) -> int:
        waiting = sum(state.due is not None for state in states)
        return max(0, waiting - await self._queue.depth())

    async def _resume(self, stored: StoredOperation) -> None:
        """A crash counts as a try."""
        interrupted = stored.due is None
        if stored.operation.status in FINAL_STATUSES:
            await self._operations.index_ended(stored)
        elif self._is_late(stored.due or stored.operation.updated_at):
            with suppress(ChangedByAnother):
                if interrupted and stored.tries + 1 >= MOST_TRIES:
                    await Progress(self._operations, stored, (), self._clock).end_interrupted()
                    return
                now = self._clock()
                operation = stored.operation.model_copy(update={"updated_at": now})
                changed = replace(stored, operation=operation, due=now, tries=stored.tries + interrupted)
                await self.send(await self._operations.save(changed))

    def _is_late(self, time: datetime) -> bool:
        return self._clock() - time > _STALLED_AFTER
