"""HTTP and queue: onboarding and offboarding, as operations that one can poll."""

import azure.functions as func

from functions.responses import ONBOARD, READ, answer, body_of, cluster_of, route, started, yes_or_no
from functions.unexpected import guarded
from pullkeeper.onboarding.documents import Onboarding, OnboardingMessage
from pullkeeper.services import services

blueprint = func.Blueprint()


@blueprint.route("clusters", methods=["POST"])
@route(ONBOARD)
async def onboard(req: func.HttpRequest) -> func.HttpResponse:
    """Onboard a cluster."""
    request = Onboarding.parse(body_of(req), trusted_hosts=services().settings.trusted_hosts)
    return started(await services().onboarder.onboard(request))


@blueprint.route("clusters/{subscription}/{resourceGroup}/{name}", methods=["DELETE"])
@route(ONBOARD, "keepWorkload", "dryRun")
async def offboard(req: func.HttpRequest) -> func.HttpResponse:
    """Offboard a cluster: all that onboarding made goes, and what is left is told."""
    keep, dry = yes_or_no(req, "keepWorkload"), yes_or_no(req, "dryRun")
    return started(await services().onboarder.offboard(cluster_of(req), keep_workload=keep, dry_run=dry))


@blueprint.route("operations/{id}", methods=["GET"])
@route(READ)
async def operation(req: func.HttpRequest) -> func.HttpResponse:
    """How an operation goes, step by step."""
    wanted = OnboardingMessage.parse({"operation": req.route_params["id"]})
    return answer(await services().onboarder.operation(wanted.operation))


@blueprint.queue_trigger(arg_name="message", queue_name="onboarding", connection="AzureWebJobsStorage")
@guarded
async def onboarding(message: func.QueueMessage) -> None:
    """Work an operation off. Raising gives the message back to the queue."""
    await services().onboarder.work_on(OnboardingMessage.parse(message.get_body()).operation)


@blueprint.queue_trigger(arg_name="message", queue_name="onboarding-poison", connection="AzureWebJobsStorage")
@guarded
async def onboarding_poison(message: func.QueueMessage) -> None:
    """What the queue gave up after its last try has failed."""
    await services().onboarder.give_up(OnboardingMessage.parse(message.get_body()).operation)
