"""Timer triggers: NCRONTAB of six fields (seconds first) or a time span, in UTC; one run of a timer at a time."""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from azure.functions.timer import TimerRequest
from croniter import croniter

from local.host.invocation import InvocationError, Invoker
from local.host.monitor import Monitor, Status
from local.host.registrations import IndexingError, Registration, TimerTrigger
from local.host.settings import SettingsError, timespan

_NEVER = datetime.min.replace(tzinfo=UTC)
# Six fields, and none of what croniter takes beyond NCRONTAB (L, #, ?, @daily, 7 for Sunday).
_NCRONTAB = re.compile(r"([\d*/,-]+ +){4}[\dA-Za-z*/,-]+ +([0-6A-Za-z*/,-]|/\d+)+")


class Timer:
    """Runs one function by its schedule until `stopping` is set, one run at a time.

    However many runs were missed, because one took too long or because no host was there, one run makes up for them;
    in the second case it is told so (`past_due`). As in the real host nobody keeps track of a timer that runs more
    than once a minute. Unlike there, two hosts on one storage account both run their timers.
    """

    def __init__(self, function: Registration, trigger: TimerTrigger, invoker: Invoker, monitor: Monitor) -> None:
        self._function = function
        self._run_on_startup = trigger.run_on_startup
        self._invoker = invoker
        self._following = schedule(trigger.schedule)
        self._monitor = monitor if trigger.use_monitor and not self._is_frequent() else Monitor({})
        self._alone = asyncio.Lock()
        self._status = self._fresh(_now())

    async def run(self, stopping: asyncio.Event) -> None:
        started = _now()
        self._status = await self._resumed(started)
        if self._status.next < started:
            await self._tick("Timer is past due", past_due=True)
        elif self._run_on_startup:
            await self._tick("Run on startup")
        while not await _set_within(stopping, self._status.next - _now()):
            # A clock that is a little early must not run the same moment twice.
            await self._tick("Timer fired", not_before=self._status.next)

    async def run_by_hand(self) -> None:
        """Like the admin route of the real host: waits for a run under way, changes nothing in the schedule."""
        async with self._alone:
            await self._invoke("This function was programmatically called via the host APIs.", past_due=False)

    def _is_frequent(self) -> bool:
        first = self._following(_now())
        second = self._following(first)
        return min(second - first, self._following(second) - second) < timedelta(minutes=1)

    def _fresh(self, now: datetime) -> Status:
        return Status(last=None, updated=now, next=self._following(now))

    async def _resumed(self, now: datetime) -> Status:
        """What was written down, unless the schedule has been changed since."""
        status = await self._monitor.read(self._function.name)
        if status is None or self._following(status.last or status.updated) != status.next:
            status = self._fresh(now)
            await self._monitor.write(self._function.name, status)
        return status

    async def _tick(self, reason: str, *, past_due: bool = False, not_before: datetime | None = None) -> None:
        async with self._alone:
            started = _now()
            await self._invoke(reason, past_due=past_due)
            reckoned = max(started, not_before or started)
            self._status = Status(last=reckoned, updated=reckoned, next=self._following(reckoned))
            await self._monitor.write(self._function.name, self._status)

    async def _invoke(self, reason: str, *, past_due: bool) -> None:
        moments = {"Last": self._status.last, "Next": self._status.next, "LastUpdated": self._status.updated}
        request = TimerRequest(
            past_due=past_due,
            schedule_status={name: (moment or _NEVER).isoformat() for name, moment in moments.items()},
            schedule={"AdjustForDST": True},
        )
        with suppress(InvocationError):  # logged; there is no retry for timers
            await self._invoker.invoke(self._function, request, reason)


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


def _now() -> datetime:
    return datetime.now(UTC)
