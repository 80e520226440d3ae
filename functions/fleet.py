"""HTTP: the fleet."""

import azure.functions as func

from functions.answers import accepted, answer, problems
from pullkeeper.model import ClusterId
from pullkeeper.services import services
from pullkeeper.version import VERSION

blueprint = func.Blueprint()
_CLUSTER = "clusters/{subscription}/{resourceGroup}/{name}"


@blueprint.route("health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def health(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - asks for nothing
    """Whether the app runs; calls nobody."""
    return answer({"status": "ok", "version": VERSION})


@blueprint.route("refresh", methods=["POST"])
@problems
async def refresh_all(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - asks for nothing
    """Refresh the whole fleet now."""
    run = await services().scheduler.refresh_all_now()
    return accepted({"queued": run.queued})


@blueprint.route(f"{_CLUSTER}/refresh", methods=["POST"])
@problems
async def refresh_cluster(req: func.HttpRequest) -> func.HttpResponse:
    """Refresh one cluster now."""
    await services().scheduler.refresh_now(_cluster(req))
    return accepted({"queued": 1})


def _cluster(req: func.HttpRequest) -> ClusterId:
    return ClusterId.of(*(req.route_params[part] for part in ("subscription", "resourceGroup", "name")))
