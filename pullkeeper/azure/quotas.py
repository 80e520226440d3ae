"""Quotas of Azure that have run out: which operation makes the next call, and when.

A 429 says when the next call may succeed, to everyone at once. So each operation of this process that needs the quota
gets a time of its own, in the order in which they came, at the rate of the quota. Until the last of these times, others
join the end of the line without making the call. No operation holds anything while it waits: it comes back by a delayed
message, and its row says for which quotas it has waited.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta

from pullkeeper.errors import ArmThrottled, PullkeeperError

_SLOWER, _FASTER, _SLOWEST = 1.5, 0.9, 16
"""How the time between two calls changes where other processes share the quota: with each call refused in its turn, and
with each that is not. _SLOWEST: times the quota's own.
"""
_turns: ContextVar[set[str]] = ContextVar("turns")


@dataclass(frozen=True, slots=True)
class Quota:
    """name: what it counts, and for which identity, or subscription and region. every: the time for one more call."""

    name: str
    every: timedelta


@dataclass(slots=True)
class _Line:
    """next: when the next operation that joins may call. slowed: from when the turns have the present pace: refusals of
    earlier ones say nothing about it.
    """

    next: datetime
    every: timedelta
    slowed: datetime


@contextmanager
def take_turns(names: set[str]) -> Iterator[None]:
    """Inside, the first call under each of these quotas is made: the operation has waited for it. The name of one that
    was used is removed.
    """
    token = _turns.set(names)
    try:
        yield
    finally:
        _turns.reset(token)


class Quotas:
    """The lines of a process. Only quotas that have run out have one."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._lines: dict[str, _Line] = {}

    @contextmanager
    def call(self, quota: Quota) -> Iterator[None]:
        """Make a call under a quota. Raises ArmThrottled, without making it, where others wait. A failure that is a
        wait gets the operation's own time as `retry_after`, and `quota` as context.
        """
        is_turn = self._take_turn(quota)
        try:
            yield
        except PullkeeperError as e:
            if not e.is_wait:
                raise
            raise self._join(quota, e, is_turn=is_turn) from None
        line = self._lines.get(quota.name)
        if line and is_turn:
            line.every = max(line.every * _FASTER, quota.every)

    def _take_turn(self, quota: Quota) -> bool:
        """Whether the operation has waited for this call."""
        turns, line = _turns.get(set()), self._lines.get(quota.name)
        if quota.name in turns:
            turns.remove(quota.name)
            return True
        if line and line.next > self._clock():
            detail = f"this quota has run out, and other operations wait for it: {quota.name}"
            raise self._join(quota, ArmThrottled(detail), is_turn=False)
        self._lines.pop(quota.name, None)
        return False

    def _join(self, quota: Quota, failure: PullkeeperError, *, is_turn: bool) -> PullkeeperError:
        """Return the failure with the time of the operation, at the end of the line."""
        now = self._clock()
        line = self._lines.setdefault(quota.name, _Line(now, quota.every, now))
        if is_turn and now >= line.slowed:
            line.every, line.slowed = min(line.every * _SLOWER, quota.every * _SLOWEST), line.next
        turn = max(line.next, now + (failure.retry_after or line.every))
        line.next = turn + line.every
        return type(failure)(failure.detail, {**failure.context, "quota": quota.name}, retry_after=turn - now)
