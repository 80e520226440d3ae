"""HTTP: the app itself."""

import azure.functions as func

from functions.openapi import document
from functions.responses import json_response
from functions.route import READ, route
from pullkeeper.services import current_settings, services
from pullkeeper.status import read_status

blueprint = func.Blueprint()


@blueprint.route("health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
@route(None)
async def health(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the request is empty
    """Report whether the settings are right, and no more: callers are anonymous. Calls no other service."""
    if current_settings().errors:
        return json_response({"status": "error"}, 503)
    return json_response({"status": "ok"})


@blueprint.route("status", methods=["GET"])
@route(READ)
async def status(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the request is empty
    """Return what is wrong with the settings, the hubs with their last mint, and the figures of fleet and queues."""
    return json_response(await read_status(current_settings(), services))


@blueprint.route("openapi.json", methods=["GET"])
@route(READ)
async def openapi(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the request is empty
    """Return the OpenAPI document of all routes."""
    return json_response(document())
