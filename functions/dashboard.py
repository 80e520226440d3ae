"""HTTP: the dashboard."""

import azure.functions as func

from functions.requests import is_sign_in_required
from functions.route import route
from pullkeeper.dashboard.page import page

blueprint = func.Blueprint()


@blueprint.route("dashboard", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
@route(None, "state", "hub", "text", "cluster", "operation")
async def dashboard(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the browser reads the query
    """Return the page, which holds no data: it asks the other routes, with the caller's key or sign-in."""
    found = page("entra" if is_sign_in_required() else "key")
    return func.HttpResponse(found.html, mimetype="text/html", headers=found.headers)
