"""Queue: one message, one cluster to refresh."""

import azure.functions as func

from functions.invocation import poison_trigger, trigger
from pullkeeper.model import RefreshMessage
from pullkeeper.services import services

blueprint = func.Blueprint()


@blueprint.queue_trigger(arg_name="message", queue_name="refresh", connection="AzureWebJobsStorage")
@trigger
async def refresh(message: func.QueueMessage) -> None:
    """Refresh one cluster. If it raises, the queue delivers the message again."""
    await services().refresher.refresh(RefreshMessage.parse(message.get_body()))


@blueprint.queue_trigger(arg_name="message", queue_name="refresh-poison", connection="AzureWebJobsStorage")
@poison_trigger
async def refresh_poison(message: func.QueueMessage) -> None:
    """Report a message that the queue has given up, and make its cluster due again soon."""
    await services().refresher.give_up(message.get_body())
