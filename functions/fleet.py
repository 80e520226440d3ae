"""HTTP: the fleet."""

import azure.functions as func

from functions.openapi import document
from functions.responses import ONBOARD, READ, accepted, answer, cluster_of, route
from pullkeeper.fleet.overview import FleetPage
from pullkeeper.services import services
from pullkeeper.version import VERSION

blueprint = func.Blueprint()
_CLUSTER = "clusters/{subscription}/{resourceGroup}/{name}"


@blueprint.route("health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def health(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - asks for nothing
    """Whether the app runs; calls nobody."""
    return answer({"status": "ok", "version": VERSION})


@blueprint.route("clusters", methods=["GET"])
@route(READ, "state", "continuation")
async def clusters(req: func.HttpRequest) -> func.HttpResponse:
    """The fleet with its status, page by page."""
    found, following = await services().overview.page(req.params.get("state"), req.params.get("continuation"))
    return answer(FleetPage(version=VERSION, clusters=found, continuation=following))


@blueprint.route(_CLUSTER, methods=["GET"])
@route(READ)
async def cluster(req: func.HttpRequest) -> func.HttpResponse:
    """One cluster with its status."""
    return answer(await services().overview.one(cluster_of(req)))


@blueprint.route("handover", methods=["GET"])
@route(READ, "hub")
async def handover(req: func.HttpRequest) -> func.HttpResponse:
    """What the publisher must trust, once for the whole fleet."""
    return answer(await services().handover(req.params.get("hub")))


@blueprint.route("openapi.json", methods=["GET"])
@route(READ)
async def openapi(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - asks for nothing
    """This interface, for generators and tests."""
    return answer(document())


@blueprint.route("refresh", methods=["POST"])
@route(ONBOARD)
async def refresh_all(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - asks for nothing
    """Refresh the whole fleet now."""
    run = await services().scheduler.refresh_all_now()
    return accepted({"queued": run.queued})


@blueprint.route(f"{_CLUSTER}/refresh", methods=["POST"])
@route(ONBOARD)
async def refresh_cluster(req: func.HttpRequest) -> func.HttpResponse:
    """Refresh one cluster now."""
    await services().scheduler.refresh_now(cluster_of(req))
    return accepted({"queued": 1})
