"""How every route answers: JSON, and RFC 9457 problem documents that carry category and remedy."""

import functools
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import azure.functions as func

from functions.unexpected import told
from pullkeeper.errors import InvalidRequest, NotInFleet, PullkeeperError, StorageUnavailable

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
    """Turns what a route raises into a problem document."""

    @functools.wraps(route)
    async def answered(req: func.HttpRequest) -> func.HttpResponse:
        try:
            return await route(req)
        except PullkeeperError as e:
            return problem(e)
        except Exception as e:  # noqa: BLE001 - the last one who can answer
            return problem(told(route.__name__, e))

    return answered
