"""The timer, and the queue's last resort."""

import azure.functions as func

from functions.unexpected import guarded
from pullkeeper.services import services

blueprint = func.Blueprint()


@blueprint.timer_trigger(arg_name="timer", schedule="%REFRESH_SCHEDULE%", run_on_startup=False, use_monitor=True)
@guarded
async def schedule(timer: func.TimerRequest) -> None:  # noqa: ARG001 - a late run does the same as one in time
    """What is due goes on the queue."""
    await services().scheduler.run()


@blueprint.queue_trigger(arg_name="message", queue_name="refresh-poison", connection="AzureWebJobsStorage")
@guarded
async def refresh_poison(message: func.QueueMessage) -> None:
    """What the queue gave up after its last try is told, and due again soon."""
    await services().refresher.give_up(message.get_body())
