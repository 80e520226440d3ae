"""What nobody expected is logged with its type and place and told by its type alone: its text might quote anything."""

import functools
import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from pullkeeper.errors import InternalError, PullkeeperError

Trigger = Callable[..., Awaitable[None]]


def told(where: str, error: Exception) -> InternalError:
    """The failure that stands for it."""
    place = "".join(traceback.format_tb(error.__traceback__))
    logging.getLogger("pullkeeper").error("%s failed: %s\n%s", where, type(error).__name__, place)
    return InternalError(type(error).__name__)


def guarded(trigger: Trigger) -> Trigger:
    """For timers and queues, whose exceptions the host writes into its log, text and all."""

    @functools.wraps(trigger)
    async def quiet(*args: Any, **bindings: Any) -> None:
        try:
            await trigger(*args, **bindings)
        except PullkeeperError:
            raise
        except Exception as e:  # noqa: BLE001 - the last one who can keep its text in
            failure = told(trigger.__name__, e)
        else:
            return
        raise failure

    return quiet
