"""Timer triggers: NCRONTAB of six fields (seconds first) or a time span, in UTC; one run of a timer at a time."""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from azure.functions.timer import TimerRequest
from croniter import croniter

from local.host.invocation import InvocationError, Invoker
from local.host.registrations import IndexingError, Registration, TimerTrigger
from local.host.settings import SettingsError, timespan

# Six fields, and none of what croniter takes beyond NCRONTAB (L, #, ?, @daily, 7 for Sunday).
_NCRONTAB = re.compile(r"([\d*/,-]+ +){4}[\dA-Za-z*/,-]+ +([0-6A-Za-z*/,-]|/\d+)+")


class Timer:
    """Runs one function by its schedule until `stopping` is set.

    What comes due while a run is under way is caught up on with one run, at once, as the real host does. Unlike there
    the last run is not written down, so a run missed while no host was running is not made up for (`past_due`).
    """

    def __init__(self, function: Registration, trigger: TimerTrigger, invoker: Invoker) -> None:
        self._function = function
        self._run_on_startup = trigger.run_on_startup
        self._invoker = invoker
        self._schedule = trigger.schedule
        self._next = schedule(trigger.schedule)
        self._alone = asyncio.Lock()
        self._last: datetime | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        due = self._next(datetime.now(UTC))
        if self._run_on_startup:
            await self._tick(due, "run on startup")
        while not await _set_within(stopping, due - datetime.now(UTC)):
            started = max(datetime.now(UTC), due)
            following = self._next(started)
            await self._tick(following, "Timer fired")
            due = following

    async def run_by_hand(self) -> None:
        """Like the admin route of the real host: waits for a run under way, changes nothing in the schedule."""
        await self._tick(self._next(datetime.now(UTC)), "This function was programmatically called via the host APIs.")

    async def _tick(self, following: datetime, reason: str) -> None:
        async with self._alone:
            now = datetime.now(UTC)
            last = self._last or datetime.min.replace(tzinfo=UTC)
            status = {"Last": last, "Next": following, "LastUpdated": last}
            request = TimerRequest(
                past_due=False,
                schedule_status={key: moment.isoformat() for key, moment in status.items()},
                schedule={"AdjustForDST": True},
            )
            with suppress(InvocationError):  # logged; there is no retry for timers
                await self._invoker.invoke(self._function, request, reason)
            self._last = now


def schedule(text: str) -> Callable[[datetime], datetime]:
    """From a moment to the next one of the schedule `text`. Raises IndexingError where it is none."""
    with suppress(SettingsError):
        interval = timespan(text)
        return lambda moment: moment + interval
    if not _NCRONTAB.fullmatch(text) or not croniter.is_valid(text, second_at_beginning=True):
        raise IndexingError(f"the schedule {text!r} is neither a cron expression of six fields nor a time span")

    def following(moment: datetime) -> datetime:
        # Where both are restricted, NCRONTAB wants the day of the month and the day of the week; cron takes either.
        occurrence: datetime = croniter(text, moment, second_at_beginning=True, day_or=False).get_next(datetime)
        return occurrence

    return following


async def _set_within(event: asyncio.Event, patience: timedelta) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), max(0.0, patience.total_seconds()))
    return event.is_set()
