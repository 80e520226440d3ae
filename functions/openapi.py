"""The OpenAPI document, generated from the models that parse and write the bodies."""

from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from pullkeeper.diagnosis.report import Diagnosis
from pullkeeper.document import Document
from pullkeeper.fleet.overview import ClusterView, FleetPage
from pullkeeper.fleet.status import State
from pullkeeper.onboarding.documents import Handover, Onboarding, Operation, OperationsPage, OperationStatus
from pullkeeper.status import AppStatus
from pullkeeper.version import VERSION


class ProblemDocument(Document):
    """RFC 9457, with category and remedy. type: the address of the category's page in the runbook. operation: the
    address of the operation that already runs for the cluster.
    """

    type: Annotated[str, Field(json_schema_extra={"format": "uri"})]
    title: str
    status: int
    detail: str
    category: str
    remedy: str
    operation: str | None = None


class Queued(Document):
    """queued: how many clusters will be refreshed."""

    queued: int


class Health(Document):
    status: Literal["ok", "error"]


_CLUSTER: Final = "/clusters/{subscription}/{resourceGroup}/{name}"
# Method, path, summary, query parameters, body, and the status and body of success.
_ROUTES: Final[tuple[tuple[str, str, str, tuple[str, ...], type[BaseModel] | None, int, type[BaseModel]], ...]] = (
    ("get", "/health", "Whether the settings are right", (), None, 200, Health),
    ("get", "/status", "Wrong settings, hubs with their last mint, totals, queue depths", (), None, 200, AppStatus),
    ("get", "/clusters", "The fleet, page by page", ("state", "continuation"), None, 200, FleetPage),
    ("post", "/clusters", "Onboard a cluster", (), Onboarding, 202, Operation),
    ("get", _CLUSTER, "One cluster, its targets page by page", ("state", "continuation"), None, 200, ClusterView),
    ("delete", _CLUSTER, "Offboard a cluster", ("keepWorkload", "dryRun"), None, 202, Operation),
    ("get", f"{_CLUSTER}/diagnosis", "The hops from the app to a cluster's pods", (), None, 200, Diagnosis),
    ("get", "/hubs/{hub}/diagnosis", "The hops from the app to a hub's images", (), None, 200, Diagnosis),
    ("post", f"{_CLUSTER}/refresh", "Refresh one cluster now", (), None, 202, Queued),
    ("post", "/refresh", "Refresh the whole fleet now", (), None, 202, Queued),
    (
        "get",
        "/operations",
        "Operations, newest first",
        ("cluster", "status", "continuation"),
        None,
        200,
        OperationsPage,
    ),
    ("get", "/operations/{id}", "An operation with its steps", (), None, 200, Operation),
    ("get", "/handover", "What the publisher must trust", ("hub",), None, 200, Handover),
    ("get", "/openapi.json", "This document", (), None, 200, Health),
)
_REFUSALS: Final = ("400", "403", "404", "409", "413", "500", "502", "503")
_TEXT: Final = {"type": "string"}
_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "subscription": {"type": "string", "pattern": "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"},
    "resourceGroup": {"type": "string", "pattern": "^[A-Za-z0-9_.()-]{0,89}[A-Za-z0-9_()-]$"},
    "name": {"type": "string", "pattern": "^[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$"},
    "id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    "state": {"type": "string", "enum": list(get_args(State))},
    "status": {"type": "string", "enum": list(get_args(OperationStatus))},
    "keepWorkload": {"type": "boolean", "default": False},
    "dryRun": {"type": "boolean", "default": False},
}


def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of all routes."""
    models = [(Onboarding, "validation"), (ProblemDocument, "serialization")]
    models += [(route[6], "serialization") for route in _ROUTES]
    references, schemas = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    paths: dict[str, dict[str, Any]] = {}
    for method, path, summary, query, body, status, result in _ROUTES:
        operation: dict[str, Any] = {
            "summary": summary,
            "operationId": f"{method}{path.title().translate(_PLAIN)}",
            "parameters": [_parameter(name, "path") for name in _names(path)]
            + [_parameter(name, "query") for name in query],
            "responses": {
                str(status): {
                    "description": summary,
                    "content": {"application/json": {"schema": references[result, "serialization"]}},
                    **({"headers": _OPERATION_HEADERS} if result is Operation and status == _ACCEPTED else {}),
                },
                "401": {"description": "No key or a wrong one: the platform's response, which has no body"},
                **dict.fromkeys(_REFUSALS, _PROBLEM),
            },
        }
        if path == "/openapi.json":
            operation["responses"]["200"]["content"]["application/json"]["schema"] = {"type": "object"}
        if body:
            schema = {"schema": references[body, "validation"]}
            operation["requestBody"] = {"required": True, "content": {"application/json": schema}}
        if path == "/health":
            operation["security"] = []
            operation["responses"]["503"] = {**operation["responses"]["200"], "description": "A setting is wrong"}
        paths.setdefault(path, {})[method] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Pullkeeper", "version": VERSION},
        "servers": [{"url": "/api"}],
        "security": [{"functionKey": []}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"functionKey": {"type": "apiKey", "in": "header", "name": "x-functions-key"}},
        },
    }


_ACCEPTED: Final = 202
_OPERATION_HEADERS: Final = {
    "Location": {"description": "The address of the operation, to be polled", "required": True, "schema": _TEXT},
    "Retry-After": {"description": "Seconds to wait before the next poll", "required": True, "schema": _TEXT},
}
_PLAIN: Final = str.maketrans("", "", "/{}.")
_PROBLEM: Final = {
    "description": "A problem, with its category and remedy",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
}


def _names(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def _parameter(name: str, place: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": _PARAMETERS.get(name, _TEXT)}
