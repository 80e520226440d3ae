"""Queue: one message, one shard to refresh."""

import azure.functions as func

from functions.invocation import poison_trigger, trigger
from pullkeeper.services import services

blueprint = func.Blueprint()


@blueprint.queue_trigger(arg_name="message", queue_name="refresh", connection="AzureWebJobsStorage")
@trigger
async def refresh(message: func.QueueMessage) -> None:
    """Refresh what is due in a shard."""
    await services().refresher.receive(message.get_body())


@blueprint.queue_trigger(arg_name="message", queue_name="refresh-poison", connection="AzureWebJobsStorage")
@poison_trigger
async def refresh_poison(message: func.QueueMessage) -> None:
    """Report a message that the queue has given up: one that cannot be read, or that killed the process five times."""
    await services().refresher.give_up(message.get_body())
