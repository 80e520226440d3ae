"""The queue: one message, one cluster."""

import azure.functions as func

from functions.unexpected import guarded
from pullkeeper.model import RefreshMessage
from pullkeeper.services import services

blueprint = func.Blueprint()


@blueprint.queue_trigger(arg_name="message", queue_name="refresh", connection="AzureWebJobsStorage")
@guarded
async def refresh(message: func.QueueMessage) -> None:
    """Refresh one cluster. Raising gives the message back to the queue."""
    await services().refresher.refresh(RefreshMessage.parse(message.get_body()))
