"""What every trigger shares: one deadline, and failures whose text is safe to log and to show."""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from pullkeeper import telemetry
from pullkeeper.deadline import INVOCATION, deadline
from pullkeeper.errors import DeadlinePassed, PullkeeperError

Trigger = Callable[..., Awaitable[None]]
_Result = TypeVar("_Result")
_logger = logging.getLogger("pullkeeper")


def trigger(function: Trigger, limit: timedelta = INVOCATION) -> Trigger:
    """Decorate a timer or queue function. It raises PullkeeperError only."""

    @functools.wraps(function)
    async def invoke(*args: Any, **bindings: Any) -> None:
        await run(function.__name__, function(*args, **bindings), limit)

    return invoke


def poison_trigger(function: Trigger) -> Trigger:
    """Decorate a function on a poison queue. It never raises: its failures are reported as `message.poisoned`.

    If it raised, Storage.Queues before 5.3.8 would move the message to a second poison queue, and later versions would
    hide it for ten minutes at a time. Nothing is lost with the message: the timer queues the work again.
    """

    @functools.wraps(function)
    async def invoke(*args: Any, **bindings: Any) -> None:
        try:
            await run(function.__name__, function(*args, **bindings))
        except PullkeeperError as e:
            failure = {"function": function.__name__, "category": e.category, "detail": e.detail, "remedy": e.remedy}
            telemetry.emit("message.poisoned", failure, logging.ERROR)

    return invoke


async def run(name: str, invocation: Awaitable[_Result], limit: timedelta = INVOCATION) -> _Result:
    """Await an invocation of the function `name` within its deadline. Raises PullkeeperError only, because the host
    logs the text of everything that a function raises.

    At the deadline it is cancelled, which is DeadlinePassed: if it ran on, the host would end the whole worker at
    `functionTimeout`, with every other invocation in it.
    """
    timer = asyncio.timeout(limit.total_seconds())
    try:
        async with timer:
            with deadline(limit):
                return await invocation
    except PullkeeperError:
        raise
    except Exception as e:  # noqa: BLE001 - nothing above may see its text
        failure = _report_deadline(name, limit) if timer.expired() else telemetry.report_unexpected(name, e)
    raise failure  # outside of the handler, so that it does not carry the original


def _report_deadline(name: str, limit: timedelta) -> DeadlinePassed:
    failure = DeadlinePassed(f"{name} was cancelled after {limit.total_seconds():.0f} s")
    _logger.error("%s. %s", failure.detail, failure.remedy)
    return failure
