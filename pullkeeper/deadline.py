"""The deadline of an invocation: every call gets the smaller of its own time-out and what is left.

A function that reaches `functionTimeout` takes the whole worker process and all its other invocations with it, so an
invocation ends itself at half of that (docs/host-json.md). The deadline travels in a context variable: tasks that an
invocation starts inherit it, and code outside an invocation has none.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Final

INVOCATION: Final = timedelta(seconds=150)
"""Half of host.json's `functionTimeout`; a test compares the two."""
_SHORTEST: Final = 0.001  # seconds; several clients take 0 for "no limit"
_ends: ContextVar[float | None] = ContextVar("deadline", default=None)


@contextmanager
def deadline(limit: timedelta = INVOCATION) -> Iterator[None]:
    """Limit everything inside to `limit` from now, or to what an outer deadline leaves. Interrupts nothing."""
    ends = asyncio.get_running_loop().time() + limit.total_seconds()
    outer = _ends.get()
    token = _ends.set(ends if outer is None else min(ends, outer))
    try:
        yield
    finally:
        _ends.reset(token)


@contextmanager
def reserve(time: timedelta) -> Iterator[None]:
    """Move the deadline of everything inside forward by `time`, which is left for what follows it."""
    ends = _ends.get()
    token = _ends.set(None if ends is None else ends - time.total_seconds())
    try:
        yield
    finally:
        _ends.reset(token)


def remaining(own: float) -> float:
    """Return the time-out of a call that would take `own` seconds at most: in seconds, always above 0."""
    ends = _ends.get()
    return own if ends is None else max(_SHORTEST, min(own, ends - asyncio.get_running_loop().time()))


def has_passed() -> bool:
    """Whether no time is left for another call."""
    ends = _ends.get()
    return ends is not None and ends <= asyncio.get_running_loop().time()
