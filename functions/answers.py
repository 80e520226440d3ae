"""How every route answers: JSON, and RFC 9457 problem documents that carry category and remedy."""

import functools
import json
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import azure.functions as func

from pullkeeper.errors import InternalError, InvalidRequest, NotInFleet, PullkeeperError, StorageUnavailable

Route = Callable[[func.HttpRequest], Awaitable[func.HttpResponse]]
_STATUS: dict[type[PullkeeperError], int] = {NotInFleet: 404, InvalidRequest: 400, StorageUnavailable: 503}


def answer(body: Mapping[str, Any], status: int = 200) -> func.HttpResponse:
    return func.HttpResponse(json.dumps(body), status_code=status, mimetype="application/json")


def accepted(body: Mapping[str, Any]) -> func.HttpResponse:
    return answer(body, 202)


def problem(error: PullkeeperError) -> func.HttpResponse:
    """`type` is the runbook's page, relative to the documentation."""
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 502)
    body = {
        "type": f"docs/runbook/{error.category}.md",
        "title": error.meaning,
        "status": status,
        "detail": error.detail,
        "category": error.category,
        "remedy": error.remedy,
    }
    return func.HttpResponse(json.dumps(body), status_code=status, mimetype="application/problem+json")


def problems(route: Route) -> Route:
    """Turns what a route raises into a problem document. What nobody expected is told by its type, and logged with its
    place: its text might quote anything.
    """

    @functools.wraps(route)
    async def answered(req: func.HttpRequest) -> func.HttpResponse:
        try:
            return await route(req)
        except PullkeeperError as e:
            return problem(e)
        except Exception as e:  # noqa: BLE001 - the last one who can answer
            place = "".join(traceback.format_tb(e.__traceback__))
            logging.getLogger("pullkeeper").error("%s failed: %s\n%s", route.__name__, type(e).__name__, place)  # noqa: TRY400 - nor its text
            return problem(InternalError(type(e).__name__))

    return answered
