"""HTTP and queue: onboarding and offboarding, as operations that callers poll."""

from functools import partial

import azure.functions as func

from functions.invocation import poison_trigger, trigger
from functions.requests import boolean_parameter, cluster_from_route, parameter, read_body
from functions.responses import json_response, operation_response
from functions.route import ONBOARD, READ, route
from pullkeeper.onboarding.documents import Onboarding, OnboardingMessage, OperationsQuery
from pullkeeper.onboarding.run import LONGEST
from pullkeeper.services import services
from pullkeeper.settings import ONBOARDING

blueprint = func.Blueprint()
_QUERY = ("cluster", "status", "continuation")


@blueprint.route("clusters", methods=["POST"])
@route(ONBOARD)
async def onboard(req: func.HttpRequest) -> func.HttpResponse:
    """Onboard a cluster."""
    settings = services().settings
    settings.require(*ONBOARDING)
    request = Onboarding.parse(read_body(req), trusted_hosts=settings.trusted_hosts)
    return operation_response(await services().onboarder.onboard(request))


@blueprint.route("clusters/{subscription}/{resourceGroup}/{name}", methods=["DELETE"])
@route(ONBOARD, "keepWorkload", "dryRun")
async def offboard(req: func.HttpRequest) -> func.HttpResponse:
    """Offboard a cluster: remove everything that onboarding made, and report what is left."""
    services().settings.require(*ONBOARDING)
    keep, dry = boolean_parameter(req, "keepWorkload"), boolean_parameter(req, "dryRun")
    return operation_response(
        await services().onboarder.offboard(cluster_from_route(req), keep_workload=keep, dry_run=dry)
    )


@blueprint.route("operations/{id}", methods=["GET"])
@route(READ)
async def operation(req: func.HttpRequest) -> func.HttpResponse:
    """Return an operation with its steps."""
    wanted = OnboardingMessage.parse({"operation": req.route_params["id"]})
    return json_response(await services().onboarder.get_operation(wanted.operation))


@blueprint.route("operations", methods=["GET"])
@route(READ, *_QUERY)
async def operations(req: func.HttpRequest) -> func.HttpResponse:
    """Return a page of the operations, the newest first."""
    query = OperationsQuery.parse({name: parameter(req, name) for name in _QUERY})
    return json_response(await services().listing.page(query))


@blueprint.queue_trigger(arg_name="message", queue_name="onboarding", connection="AzureWebJobsStorage")
@partial(trigger, limit=LONGEST)
async def onboarding(message: func.QueueMessage) -> None:
    """Work on an operation. If it raises, the queue delivers the message again."""
    await services().runner.run(OnboardingMessage.parse(message.get_body()))


@blueprint.queue_trigger(arg_name="message", queue_name="onboarding-poison", connection="AzureWebJobsStorage")
@poison_trigger
async def onboarding_poison(message: func.QueueMessage) -> None:
    """Mark an operation as failed whose message the queue has given up."""
    await services().runner.give_up(OnboardingMessage.parse(message.get_body()))
