"""The OpenAPI document is true: every response is one that it describes."""

import asyncio
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from functions.openapi import document
from tests.http.conftest import App, onboarding_body

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]
_DOCUMENT: Final = document()
_SCHEMA: Final = schemathesis.openapi.from_dict(_DOCUMENT)
_ROUTES: Final = [
    (path, method.upper(), mode)
    for path, methods in _DOCUMENT["paths"].items()
    for method, operation in methods.items()
    for mode in GenerationMode
    # A request without parameters and body cannot be wrong.
    if mode.is_positive or operation["parameters"] or "requestBody" in operation
]
_EXAMPLES: Final = 12
_CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    ignored_auth,
]
"""Not `unsupported_method`: the platform responds with 404 where there is no route for a method. Not
`positive_data_acceptance`: the schema does not know which clusters may be onboarded, or which hubs there are.
"""


async def test_the_document_says_what_to_send_and_what_may_come_back() -> None:
    onboard, listed = (_DOCUMENT["paths"]["/clusters"][method] for method in ("post", "get"))
    assert onboard["requestBody"]["required"]
    assert sorted(onboard["responses"]) == ["202", "400", "401", "403", "404", "409", "413", "500", "502", "503"]
    assert _DOCUMENT["security"] == [{"functionKey": []}]
    assert {*onboard["responses"]["202"]["headers"]} == {"Location", "Retry-After"}
    healthy, wrong = (_DOCUMENT["paths"]["/health"]["get"]["responses"][status] for status in ("200", "503"))
    assert wrong["content"] == healthy["content"]
    unprotected = [path for path, one in _DOCUMENT["paths"].items() if any("security" in each for each in one.values())]
    assert unprotected == ["/health"]
    states = {one["name"]: one["schema"] for one in listed["parameters"]}["state"]["enum"]
    assert states == ["pending", "fresh", "stale", "expired", "unknown", "removed"]


@pytest.mark.parametrize(("path", "method", "mode"), _ROUTES)
async def test_every_response_is_described(app: App, path: str, method: str, mode: GenerationMode) -> None:
    operation = _SCHEMA[path][method]

    @settings(
        max_examples=_EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case[Any]) -> None:
        _call(app, case)

    await asyncio.to_thread(check)


def _call(app: App, case: schemathesis.Case[Any]) -> Any:
    headers = {"x-functions-key": app.host.keys.default}
    return case.call_and_validate(f"{app.host.url}/api", headers=headers, checks=_CHECKS)


async def test_every_successful_response_is_described(app: App) -> None:
    """With names that exist, from onboarding to offboarding."""
    cluster = await app.add_cluster("aks-1")
    parts = {
        "subscription": cluster.id.subscription,
        "resourceGroup": cluster.id.resource_group,
        "name": cluster.id.name,
    }
    one = "/clusters/{subscription}/{resourceGroup}/{name}"

    async def call(method: str, path: str, status: int, **parts: Any) -> Any:
        case = _SCHEMA[path][method].Case(**parts)
        response = await asyncio.to_thread(_call, app, case)
        assert response.status_code == status
        return response.json()

    started = await call("POST", "/clusters", 202, body=onboarding_body(cluster), media_type="application/json")
    await app.poll(f"operations/{started['id']}")
    ended = await call("GET", "/operations/{id}", 200, path_parameters={"id": started["id"]})
    assert ended["status"] == "Succeeded"
    listed = await call("GET", "/operations", 200, query={"cluster": str(cluster.id), "status": "Succeeded"})
    assert [operation["id"] for operation in listed["operations"]] == [started["id"]]
    for query, found in (({}, 1), ({"state": "fresh"}, 1), ({"state": "stale"}, 0)):
        view = await call("GET", one, 200, path_parameters=parts, query=query)
        assert (view["cluster"], len(view["targets"])) == (str(cluster.id), found)
    assert await call("POST", one + "/refresh", 202, path_parameters=parts) == {"queued": 1}
    assert len((await call("GET", "/clusters", 200, query={"state": "fresh"}))["clusters"]) == 1
    offboarding = await call("DELETE", one, 202, path_parameters=parts)
    assert (await app.poll(f"operations/{offboarding['id']}"))[-1]["status"] == "Succeeded"
