"""Timer: queue the clusters that are due."""

import azure.functions as func

from functions.invocation import trigger
from pullkeeper.services import current_settings, services
from pullkeeper.status import report_problems

blueprint = func.Blueprint()


@blueprint.timer_trigger(arg_name="timer", schedule="%REFRESH_SCHEDULE%", run_on_startup=False, use_monitor=True)
@trigger
async def schedule(timer: func.TimerRequest) -> None:  # noqa: ARG001 - a late run does the same as one on time
    """Report wrong settings, queue the shards that are due, resume operations that stand still, create queues and
    tables that are still missing, remove operations that ended long ago, and probe the tokens that are held.
    """
    report_problems(current_settings())
    await services().scheduler.run()
    await services().messages.resume_stalled()
    await services().storage_objects.create()
    await services().retention.remove_expired()
    await services().federation.probe_held()
