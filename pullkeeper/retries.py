"""Retries of calls to other services: limited in number, by their own time, and by the invocation's deadline."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta

import stamina

from pullkeeper.deadline import remaining
from pullkeeper.errors import PullkeeperError

_longest_wait: ContextVar[float] = ContextVar("longest_wait", default=float("inf"))


@contextmanager
def limit_waits(longest: timedelta) -> Iterator[None]:
    """Limit every wait between two attempts inside: the caller holds a place, and has a better way to wait."""
    token = _longest_wait.set(longest.total_seconds())
    try:
        yield
    finally:
        _longest_wait.reset(token)


def attempts(
    most: int,
    *,
    within: timedelta,
    when: Callable[[PullkeeperError], bool],
    first_wait: float = 0.1,
    longest_wait: float = 5.0,
) -> AsyncIterator[stamina.Attempt]:
    """Yield up to `most` attempts, each to be entered with `with attempt:`. The last failure is raised.

    within: no further try begins once this time has passed. when: whether a failure is worth another try.
    first_wait, longest_wait: in seconds; waits double and have jitter. A service that asks for a wait gets it, up to
    half of `within`; beyond that the try is the queue's business, because waiting here holds a place that others need.
    `limit_waits` lowers that.
    No further try begins where the invocation's deadline leaves less time than the wait.
    """
    longest = min(within.total_seconds() / 2, _longest_wait.get())
    longest_wait = min(longest_wait, longest)

    def backoff(error: Exception) -> bool | timedelta:
        if not isinstance(error, PullkeeperError) or not when(error):
            return False
        asked = error.retry_after or timedelta()
        wait = max(longest_wait, asked.total_seconds())
        return asked.total_seconds() <= longest and remaining(wait) == wait and (asked or True)

    return stamina.retry_context(
        on=backoff,
        attempts=most,
        timeout=remaining(within.total_seconds()),
        wait_initial=first_wait,
        wait_max=longest_wait,
        wait_jitter=min(1.0, longest_wait),
    )
