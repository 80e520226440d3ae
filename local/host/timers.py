"""Timer triggers: NCRONTAB of six fields (seconds first), in UTC."""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from azure.functions.timer import TimerRequest
from croniter import croniter

from local.host.invocation import InvocationError, Invoker
from local.host.registrations import IndexingError, Registration, TimerTrigger
from local.host.settings import SettingsError, UnsupportedError, timespan

# Six fields, and none of what croniter takes beyond NCRONTAB (L, #, ?, @daily, 7 for Sunday).
_NCRONTAB = re.compile(r"([\d*/,-]+ +){4}[\dA-Za-z*/,-]+ +([0-6A-Za-z*/,-]|/\d+)+")


class Timer:
    """Runs one function by its schedule, one run at a time; one run makes up for all that a long run missed."""

    def __init__(self, function: Registration, trigger: TimerTrigger, invoker: Invoker) -> None:
        """Raises IndexingError if the schedule is not one, UnsupportedError for five fields and for time spans."""
        self._function = function
        self._invoker = invoker
        self._next_after = parse_schedule(trigger.schedule)

    async def run(self, stopping: asyncio.Event) -> None:
        due = self._next_after(_now())
        while not await _is_set_within(stopping, due - _now()):
            started = max(_now(), due)  # a clock that is a little early must not run the same moment twice
            await self.run_by_hand("timer")
            due = self._next_after(started)

    async def run_by_hand(self, reason: str = "admin") -> None:
        """Run now, beside a scheduled run if there is one; the schedule stays."""
        request = TimerRequest(past_due=False, schedule_status={}, schedule={"AdjustForDST": True})
        with suppress(InvocationError):  # logged; there is no retry for timers
            await self._invoker.invoke(self._function, request, reason)


def parse_schedule(text: str) -> Callable[[datetime], datetime]:
    """Returns what gives the next moment of the schedule `text` after a moment."""
    with suppress(SettingsError):
        raise UnsupportedError(
            f"the time span {timespan(text)} as a schedule: Flex Consumption does not take it either"
        )
    if len(text.split()) == 5 and croniter.is_valid(text):  # noqa: PLR2004 - fields
        raise UnsupportedError(f"the schedule {text!r} of five fields, which is easily misread: write the seconds too")
    if not _NCRONTAB.fullmatch(text) or not croniter.is_valid(text, second_at_beginning=True):
        raise IndexingError(f"the schedule {text!r} is not a cron expression of six fields")

    def next_after(moment: datetime) -> datetime:
        # Where both are restricted, NCRONTAB wants the day of the month and the day of the week; cron takes either.
        occurrence: datetime = croniter(text, moment, second_at_beginning=True, day_or=False).get_next(datetime)
        return occurrence

    return next_after


async def _is_set_within(event: asyncio.Event, patience: timedelta) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), max(0.0, patience.total_seconds()))
    return event.is_set()


def _now() -> datetime:
    return datetime.now(UTC)
