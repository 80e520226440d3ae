"""The decorator of every route: who may call it, what its query may hold, and a problem document if it fails."""

import functools
from collections.abc import Awaitable, Callable
from typing import Final

import azure.functions as func

from functions.invocation import run
from functions.requests import check_query, check_role
from functions.responses import problem_response
from pullkeeper.errors import PullkeeperError
from pullkeeper.services import current_settings

Handler = Callable[[func.HttpRequest], Awaitable[func.HttpResponse]]

READ: Final = "Pullkeeper.Read"
ONBOARD: Final = "Pullkeeper.Onboard"
"""App roles in Entra, where callers sign in there (Easy Auth). Elsewhere a function key opens every route."""


def route(role: str | None, *query: str) -> Callable[[Handler], Handler]:
    """Decorate a route. role: the app role that callers need, None for everyone. query: the parameters it takes."""

    def decorate(handler: Handler) -> Handler:
        @functools.wraps(handler)
        async def respond(req: func.HttpRequest) -> func.HttpResponse:
            async def check_and_handle() -> func.HttpResponse:
                if role:
                    check_role(req, role)
                check_query(req, query)
                return await handler(req)

            try:
                return await run(handler.__name__, check_and_handle())
            except PullkeeperError as e:
                return problem_response(e, current_settings().documentation)

        return respond

    return decorate
