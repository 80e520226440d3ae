"""What every trigger shares: a failure whose text is safe to log and to show."""

import functools
import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from pullkeeper.errors import InternalError, PullkeeperError

Trigger = Callable[..., Awaitable[None]]


def trigger(function: Trigger) -> Trigger:
    """Decorate a timer or queue function: it raises PullkeeperError only, because the host logs the text of whatever a
    function raises.
    """

    @functools.wraps(function)
    async def invoke(*args: Any, **bindings: Any) -> None:
        try:
            await function(*args, **bindings)
        except PullkeeperError:
            raise
        except Exception as e:  # noqa: BLE001 - nothing above may see its text
            failure = report_unexpected(function.__name__, e)
        else:
            return
        raise failure  # outside of the handler, so that it does not carry the original

    return invoke


def report_unexpected(where: str, error: Exception) -> InternalError:
    """Log an unexpected exception with type and traceback, and return the failure that replaces it. Both leave out the
    exception's text, because that may quote anything.
    """
    place = "".join(traceback.format_tb(error.__traceback__))
    logging.getLogger("pullkeeper").error("%s failed: %s\n%s", where, type(error).__name__, place)
    return InternalError(type(error).__name__)
