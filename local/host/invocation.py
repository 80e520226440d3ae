"""One call of one function: its time-out, its result and its lines in the log."""

import asyncio
import inspect
import logging
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from azure.functions.http import HttpResponseConverter

from local.host.registrations import HttpTrigger, Registration

_log = logging.getLogger("local.host")
_GRACE = 2.0
"""Seconds between the time-out and the end of the worker process."""


class InvocationError(Exception):
    """The function raised, or returned what its trigger cannot take; already logged."""


class FunctionTimeoutError(RuntimeError):
    """A function did not end in time: the worker process ends with everything that runs in it."""


class Invoker:
    """Calls functions. end_process: called with the reason when a function did not end in time."""

    def __init__(self, timeout: timedelta | None, end_process: Callable[[Exception], None]) -> None:
        self._timeout = None if timeout is None else timeout.total_seconds()
        self._end_process = end_process

    async def invoke(self, function: Registration, argument: object, reason: str) -> Any:
        """Call `function`. Raises InvocationError.

        Returns what Microsoft's converter makes of the value of an HTTP function (a Datum), otherwise None.

        The log gets what the real host's log gets, the exception with its text included: a secret in there is the
        app's leak, and a test must be able to find it. The argument is never logged.
        """
        invocation = str(uuid.uuid4())
        _log.info("Executing 'Functions.%s' (Reason='%s', Id=%s)", function.name, reason, invocation)
        started = time.monotonic()
        watch = asyncio.create_task(self._watch(function.name))
        error: BaseException | None = None
        try:
            return await _call(function, argument)
        except asyncio.CancelledError as cancelled:
            error = cancelled
            raise
        except Exception as failure:
            error = failure
            raise InvocationError(function.name) from failure
        finally:
            watch.cancel()
            _log.log(
                logging.INFO if error is None else logging.ERROR,
                "Executed 'Functions.%s' (%s, Id=%s, Duration=%dms)",
                function.name,
                "Succeeded" if error is None else "Failed",
                invocation,
                (time.monotonic() - started) * 1000,
                exc_info=error,
            )

    async def _watch(self, name: str) -> None:
        if self._timeout is None:
            return
        await asyncio.sleep(self._timeout)
        timeout = FunctionTimeoutError(f"'Functions.{name}' has not ended after {self._timeout:g} s (functionTimeout)")
        _log.error("%s", timeout)
        await asyncio.sleep(_GRACE)
        self._end_process(timeout)


async def _call(function: Registration, argument: object) -> Any:
    returned = await _run(function.call, **{function.parameter: argument})
    if isinstance(function.trigger, HttpTrigger):
        return HttpResponseConverter.encode(returned, expected_type=None)  # raises on None, a dict, bytes, ...
    if returned is not None:
        raise TypeError(f"returned a {type(returned).__name__}; without a $return binding it must be None")
    return None


async def _run(call: Callable[..., Any], **arguments: object) -> Any:
    if not inspect.iscoroutinefunction(call):
        return await asyncio.to_thread(call, **arguments)
    try:
        return await call(**arguments)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # The function itself raised it. Microsoft's worker never answers such a call: it hangs until the time-out.
        await asyncio.Event().wait()
