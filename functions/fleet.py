"""HTTP: the fleet."""

import azure.functions as func

from functions.requests import cluster_from_route, parameter
from functions.responses import accepted_response, json_response
from functions.route import ONBOARD, READ, route
from pullkeeper.fleet.overview import FleetPage
from pullkeeper.services import services
from pullkeeper.version import VERSION

blueprint = func.Blueprint()
_CLUSTER = "clusters/{subscription}/{resourceGroup}/{name}"


@blueprint.route("clusters", methods=["GET"])
@route(READ, "state", "continuation")
async def clusters(req: func.HttpRequest) -> func.HttpResponse:
    """Return a page of the fleet with its status."""
    found, following = await services().overview.page(parameter(req, "state"), parameter(req, "continuation"))
    return json_response(FleetPage(version=VERSION, clusters=found, continuation=following))


@blueprint.route(_CLUSTER, methods=["GET"])
@route(READ, "state", "continuation")
async def cluster(req: func.HttpRequest) -> func.HttpResponse:
    """Return one cluster with a page of its targets."""
    asked = parameter(req, "state"), parameter(req, "continuation")
    return json_response(await services().overview.one(cluster_from_route(req), *asked))


@blueprint.route("handover", methods=["GET"])
@route(READ, "hub")
async def handover(req: func.HttpRequest) -> func.HttpResponse:
    """Return what the publisher must trust, once for the whole fleet."""
    return json_response(await services().handover(parameter(req, "hub")))


@blueprint.route("refresh", methods=["POST"])
@route(ONBOARD)
async def refresh_all(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the request is empty
    """Refresh the whole fleet now."""
    run = await services().scheduler.refresh_all_now()
    return accepted_response({"queued": run.queued})


@blueprint.route(f"{_CLUSTER}/refresh", methods=["POST"])
@route(ONBOARD)
async def refresh_cluster(req: func.HttpRequest) -> func.HttpResponse:
    """Refresh one cluster now."""
    await services().scheduler.refresh_now(cluster_from_route(req))
    return accepted_response({"queued": 1})
