"""How every route answers: JSON, and RFC 9457 problem documents that carry category and remedy."""

import base64
import functools
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import azure.functions as func

from functions.unexpected import told
from pullkeeper.errors import (
    NONSENSE,
    Forbidden,
    InternalError,
    InvalidRequest,
    NotInFleet,
    OperationRunning,
    PullkeeperError,
    StorageUnavailable,
    TooLarge,
)
from pullkeeper.model import ClusterId, Document
from pullkeeper.onboarding.documents import Operation

_logger = logging.getLogger("pullkeeper")

Route = Callable[[func.HttpRequest], Awaitable[func.HttpResponse]]
_STATUS: dict[type[PullkeeperError], int] = {
    NotInFleet: 404,
    Forbidden: 403,
    OperationRunning: 409,
    TooLarge: 413,
    InvalidRequest: 400,
    InternalError: 500,
    StorageUnavailable: 503,
}


READ, ONBOARD = "Pullkeeper.Read", "Pullkeeper.Onboard"
"""App roles in Entra, where callers sign in there (Easy Auth). With function keys whoever has the key may do all."""
_LONGEST_BODY: Final = 256 * 1024


def answer(body: Mapping[str, Any] | Document, status: int = 200, **headers: str) -> func.HttpResponse:
    text = body.model_dump_json(by_alias=True) if isinstance(body, Document) else json.dumps(body)
    return func.HttpResponse(text, status_code=status, mimetype="application/json", headers=headers)


def accepted(body: Mapping[str, Any] | Document, **headers: str) -> func.HttpResponse:
    return answer(body, 202, **headers)


def started(operation: Operation) -> func.HttpResponse:
    """202, and where to look how it goes."""
    return accepted(operation, **{"Location": f"/api/operations/{operation.id}", "Retry-After": "2"})


def body_of(req: func.HttpRequest) -> bytes:
    """Raises TooLarge."""
    body = req.get_body()
    if len(body) > _LONGEST_BODY:
        raise TooLarge(f"a body of more than {_LONGEST_BODY} bytes")
    return body


def yes_or_no(req: func.HttpRequest, name: str) -> bool:
    """From the query; no where nothing is said. Raises InvalidRequest: a word misread here could delete something."""
    said: str = req.params.get(name, "false")
    if said not in {"true", "false"}:
        raise InvalidRequest(f"{name}: must be true or false")
    return said == "true"


def cluster_of(req: func.HttpRequest) -> ClusterId:
    """From the route. Raises InvalidRequest."""
    return ClusterId.of(*(req.route_params[part] for part in ("subscription", "resourceGroup", "name")))


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
    if "operation" in error.context:
        body["operation"] = error.context["operation"]
    return func.HttpResponse(json.dumps(body), status_code=status, mimetype="application/problem+json")


def route(role: str, *query: str) -> Callable[[Route], Route]:
    """A route for callers with this role, with what its query may name. What it raises becomes a problem document."""

    def wrapped(answering: Route) -> Route:
        @functools.wraps(answering)
        async def answered(req: func.HttpRequest) -> func.HttpResponse:
            try:
                _require(role, req)
                _know(query, req)
                return await answering(req)
            except PullkeeperError as e:
                return problem(e)
            except Exception as e:  # noqa: BLE001 - the last one who can answer
                return problem(told(answering.__name__, e))

        return answered

    return wrapped


def _know(query: tuple[str, ...], req: func.HttpRequest) -> None:
    """As in bodies, what is not known is refused: a misspelt wish would go unheard. The platform's own are its own."""
    if not req.params.keys() <= {*query, "code", "clientId"}:
        raise InvalidRequest(f"query: takes {', '.join(query) or 'nothing'}")


def _require(role: str, req: func.HttpRequest) -> None:
    """The principal's header counts only where the platform says that it checks callers, and so writes that header
    itself; anywhere else anybody could.
    """
    if os.environ.get("WEBSITE_AUTH_ENABLED", "").lower() != "true":
        return
    try:
        principal = json.loads(base64.b64decode(req.headers.get("X-MS-CLIENT-PRINCIPAL", "")))
        roles = {claim["val"] for claim in principal["claims"] if claim["typ"] in {"roles", principal.get("role_typ")}}
    except NONSENSE:
        roles = set()
    if role not in roles:
        _logger.warning("refused: %s needs the app role %s", req.method, role)
        raise Forbidden(f"the caller has not got the app role {role}")
