"""Retries of calls to other services: limited in number, by their own time, and by the invocation's deadline."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import stamina

from pullkeeper.deadline import remaining
from pullkeeper.errors import PullkeeperError


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
    No further try begins where the invocation's deadline leaves less time than the wait.
    """

    def backoff(error: Exception) -> bool | timedelta:
        if not isinstance(error, PullkeeperError) or not when(error):
            return False
        asked = error.retry_after or timedelta()
        wait = max(longest_wait, asked.total_seconds())
        return asked <= within / 2 and remaining(wait) == wait and (asked or True)

    return stamina.retry_context(
        on=backoff,
        attempts=most,
        timeout=remaining(within.total_seconds()),
        wait_initial=first_wait,
        wait_max=longest_wait,
        wait_jitter=min(1.0, longest_wait),
    )
