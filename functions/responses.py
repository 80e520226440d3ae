"""How routes respond: JSON, and problem documents (RFC 9457) with category and remedy."""

import json
from collections.abc import Mapping
from typing import Any, Final

import azure.functions as func

from pullkeeper.document import Document
from pullkeeper.documentation import Documentation
from pullkeeper.errors import (
    DeadlinePassed,
    Forbidden,
    InternalError,
    InvalidRequest,
    InvalidSetting,
    NotInFleet,
    OperationRunning,
    PullkeeperError,
    StorageUnavailable,
    TooLarge,
    UnknownFormat,
    UnknownHub,
)
from pullkeeper.onboarding.documents import Operation

_STATUS: Final[Mapping[type[PullkeeperError], int]] = {
    NotInFleet: 404,
    UnknownHub: 404,
    Forbidden: 403,
    OperationRunning: 409,
    TooLarge: 413,
    InvalidSetting: 503,
    InvalidRequest: 400,
    DeadlinePassed: 503,
    InternalError: 500,
    StorageUnavailable: 503,
    UnknownFormat: 503,
}
"""The first class that fits decides. Every other failure is that of a service behind the app: 502."""


def json_response(body: Mapping[str, Any] | Document, status: int = 200, **headers: str) -> func.HttpResponse:
    text = body.model_dump_json(by_alias=True) if isinstance(body, Document) else json.dumps(body)
    return func.HttpResponse(text, status_code=status, mimetype="application/json", headers=headers)


def accepted_response(body: Mapping[str, Any] | Document, **headers: str) -> func.HttpResponse:
    return json_response(body, 202, **headers)


def operation_response(operation: Operation) -> func.HttpResponse:
    """202 with the address of the operation, to be polled."""
    return accepted_response(operation, **{"Location": f"/api/operations/{operation.id}", "Retry-After": "2"})


def problem_response(error: PullkeeperError, documentation: Documentation) -> func.HttpResponse:
    """`type` is the address of the category's page in the runbook."""
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 502)
    body = {
        "type": documentation.page(error.category),
        "title": error.meaning,
        "status": status,
        "detail": error.detail,
        "category": error.category,
        "remedy": error.final_remedy,
    }
    if "operation" in error.context:
        body["operation"] = error.context["operation"]
    return func.HttpResponse(json.dumps(body), status_code=status, mimetype="application/problem+json")
