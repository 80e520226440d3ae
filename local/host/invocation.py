"""One call of one function: the time-out, the outputs, and the line in the log."""

import asyncio
import inspect
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import azure.functions as func
from azure.functions.http import HttpResponseConverter
from azure.functions.queue import QueueMessageOutConverter

from local.host.registrations import RETURN, HttpTrigger, Queue, Registration

_log = logging.getLogger("local.host")


class InvocationError(Exception):
    """The function raised, ran out of time, or returned what its trigger cannot take; already logged."""


class _Out(func.Out[Any]):
    """What a parameter of type `func.Out` receives."""

    _value: Any = None

    def set(self, val: Any) -> None:
        self._value = val

    def get(self) -> Any:
        return self._value


class Invoker:
    """Calls functions. `send` puts message bodies on a queue, for output bindings."""

    def __init__(
        self, app: Path, timeout: timedelta | None, send: Callable[[Queue, Iterable[bytes]], Awaitable[None]]
    ) -> None:
        self._app = app
        self._timeout = None if timeout is None else timeout.total_seconds()
        self._send = send

    async def invoke(self, function: Registration, argument: object, reason: str) -> Any:
        """Call `function` and deliver its outputs. Raises InvocationError.

        Returns what Microsoft's converter makes of the value of an HTTP function (a Datum), otherwise None.

        The log gets what the real host's log would get, the exception with its text included: a secret in there
        is the app's leak, and a test that looks for it must be able to find it. Never the argument.
        """
        invocation = str(uuid.uuid4())
        _log.debug("Executing 'Functions.%s' (Reason='%s', Id=%s)", function.name, reason, invocation)
        started = time.monotonic()
        error: BaseException | None = None
        try:
            return await self._run(function, argument, invocation)
        except asyncio.CancelledError as cancelled:
            error = cancelled
            raise
        except Exception as failure:
            error = failure
            raise InvocationError(function.name) from failure
        finally:
            _log.log(
                logging.INFO if error is None else logging.ERROR,
                "Executed 'Functions.%s' (%s, Id=%s, Duration=%dms)",
                function.name,
                "Succeeded" if error is None else "Failed",
                invocation,
                (time.monotonic() - started) * 1000,
                exc_info=error,
            )

    async def _run(self, function: Registration, argument: object, invocation: str) -> Any:
        arguments: dict[str, Any] = {function.parameter: argument}
        outs = {name: _Out() for name in function.outputs if name != RETURN}
        if function.wants_context:
            arguments["context"] = SimpleNamespace(
                invocation_id=invocation, function_name=function.name, function_directory=str(self._app)
            )
        async with asyncio.timeout(self._timeout):
            returned = await _call(function.call, arguments | outs)
            written: dict[str, Any] = {name: out.get() for name, out in outs.items()}
            if RETURN in function.outputs:
                written[RETURN] = returned
            elif returned is not None and not isinstance(function.trigger, HttpTrigger):
                raise TypeError(f"returned a {type(returned).__name__}; without a $return binding it must be None")
            answer = None
            if isinstance(function.trigger, HttpTrigger) and returned is not None:
                answer = HttpResponseConverter.encode(returned, expected_type=None)  # raises on a dict
            await self._deliver(function.outputs, written)
        return answer

    async def _deliver(self, queues: Mapping[str, Queue], written: Mapping[str, Any]) -> None:
        for name, value in written.items():
            if value is not None:
                await self._send(queues[name], _messages(value))


async def _call(call: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
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


def _messages(value: object) -> list[bytes]:
    """The bodies that one output value stands for, by Microsoft's own conversion rules."""
    QueueMessageOutConverter.encode(value, expected_type=None)  # raises on what Microsoft's worker refuses
    match value:
        case bytes():
            return [value]
        case str():
            return [value.encode()]
        case func.QueueMessage():
            return [value.get_body()]
        case Iterable():
            return [body for item in value for body in _messages(item)]
        case _:
            raise TypeError(f"a {type(value).__name__} is no queue message")
