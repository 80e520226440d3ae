"""The served document is true: whatever is sent, the answer is one that it tells of."""

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
from tests.http.conftest import App, wish

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]
_DOCUMENT: Final = document()
_SCHEMA: Final = schemathesis.openapi.from_dict(_DOCUMENT)
_ROUTES: Final = [
    (path, method.upper(), mode)
    for path, methods in _DOCUMENT["paths"].items()
    for method, operation in methods.items()
    for mode in GenerationMode
    # Where nothing is asked for, nothing can be wrong.
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
"""Not `unsupported_method`: the platform answers 404 where there is no route for a method. Not
`positive_data_acceptance`: which clusters may be onboarded, and which hubs there are, is no matter of a schema.
"""


@pytest.mark.parametrize(("path", "method", "mode"), _ROUTES)
async def test_every_answer_is_told_of(app: App, path: str, method: str, mode: GenerationMode) -> None:
    operation = _SCHEMA[path][method]

    @settings(
        max_examples=_EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def holds(case: schemathesis.Case[Any]) -> None:
        _validated(app, case)

    await asyncio.to_thread(holds)


def _validated(app: App, case: schemathesis.Case[Any]) -> Any:
    headers = {"x-functions-key": app.host.keys.default}
    return case.call_and_validate(f"{app.host.url}/api", headers=headers, checks=_CHECKS)


async def test_what_succeeds_is_told_of_too(app: App) -> None:
    """By names that there are: from onboarding to offboarding."""
    cluster = await app.cluster("aks-1")
    parts = {
        "subscription": cluster.id.subscription,
        "resourceGroup": cluster.id.resource_group,
        "name": cluster.id.name,
    }
    one = "/clusters/{subscription}/{resourceGroup}/{name}"

    async def answer(method: str, path: str, status: int, **parts: Any) -> Any:
        case = _SCHEMA[path][method].Case(**parts)
        answer = await asyncio.to_thread(_validated, app, case)
        assert answer.status_code == status
        return answer.json()

    begun = await answer("POST", "/clusters", 202, body=wish(cluster), media_type="application/json")
    await app.watched(f"operations/{begun['id']}")
    ended = await answer("GET", "/operations/{id}", 200, path_parameters={"id": begun["id"]})
    assert ended["status"] == "Succeeded"
    assert (await answer("GET", one, 200, path_parameters=parts))["cluster"] == str(cluster.id)
    assert await answer("POST", one + "/refresh", 202, path_parameters=parts) == {"queued": 1}
    assert len((await answer("GET", "/clusters", 200, query={"state": "fresh"}))["clusters"]) == 1
    gone = await answer("DELETE", one, 202, path_parameters=parts)
    assert (await app.watched(f"operations/{gone['id']}"))[-1]["status"] == "Succeeded"
