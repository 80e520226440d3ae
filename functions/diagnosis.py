"""HTTP: the diagnosis of a cluster, and of a hub."""

import azure.functions as func

from functions.requests import cluster_from_route
from functions.responses import json_response
from functions.route import READ, route
from pullkeeper.services import services

blueprint = func.Blueprint()


@blueprint.route("clusters/{subscription}/{resourceGroup}/{name}/diagnosis", methods=["GET"])
@route(READ)
async def cluster_diagnosis(req: func.HttpRequest) -> func.HttpResponse:
    """Examine the hops from the app's identity to the pods of a cluster."""
    return json_response(await services().diagnostics.examine_cluster(cluster_from_route(req)))


@blueprint.route("hubs/{hub}/diagnosis", methods=["GET"])
@route(READ)
async def hub_diagnosis(req: func.HttpRequest) -> func.HttpResponse:
    """Examine the hops from the app's identity to the images of a hub."""
    return json_response(await services().diagnostics.examine_hub(req.route_params["hub"]))
