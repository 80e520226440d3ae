"""Timer: queue the clusters that are due."""

import azure.functions as func

from functions.invocation import trigger
from pullkeeper.services import services

blueprint = func.Blueprint()


@blueprint.timer_trigger(arg_name="timer", schedule="%REFRESH_SCHEDULE%", run_on_startup=False, use_monitor=True)
@trigger
async def schedule(timer: func.TimerRequest) -> None:  # noqa: ARG001 - a late run does the same as one on time
    """Queue every cluster that is due."""
    await services().scheduler.run()
