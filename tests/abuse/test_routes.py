"""The routes, called with hostile input as the worker calls them."""

import json
import logging
from typing import Final

import azure.functions as func
import pytest

from functions import fleet, onboarding, refresh
from pullkeeper.errors import InvalidSetting, StorageUnavailable
from pullkeeper.services import Services
from tests.world import World

pytestmark = pytest.mark.servers
_GUID: Final = "00000000-0000-0000-0000-000000005eed"


@pytest.fixture(autouse=True)
def _app(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the routes use the services of the test's world."""
    monkeypatch.setattr(fleet, "services", lambda: world.services)


def _request(path: str, parts: dict[str, str] | None = None, body: bytes = b"") -> func.HttpRequest:
    return func.HttpRequest("POST", f"https://app.example/api/{path}", route_params=parts or {}, body=body)


async def _call(route: str, request: func.HttpRequest) -> func.HttpResponse:
    builder = getattr(fleet, route)
    response: func.HttpResponse = await builder._function.get_user_function()(request)
    return response


@pytest.mark.parametrize("body", [b"{", b"x" * 10_000_000, b"[" * 100_000, b'{"server":"https://evil.example"}'])
async def test_a_body_is_ignored(world: World, body: bytes) -> None:
    """The route takes none: abuse cases 4, 10 and 14."""
    await world.join("aks-1")
    response = await _call("refresh_all", _request("refresh", body=body))
    assert response.status_code == 202


async def test_an_unexpected_exception_is_reported_without_its_text(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The text may quote anything. The type is reported, and the log has the traceback."""
    canary = "ya29.canary-of-the-routes"

    def broken() -> object:
        raise RuntimeError(f"could not use {canary}")

    monkeypatch.setattr(fleet, "services", broken)
    with caplog.at_level(logging.DEBUG):
        response = await _call("refresh_all", _request("refresh"))
    assert response.status_code in {500, 502}
    problem = json.loads(response.get_body())
    assert problem["category"] == "internal"
    assert "RuntimeError" in problem["detail"]
    assert canary not in json.dumps(problem)
    assert canary not in caplog.text
    assert "in broken" in caplog.text


async def test_a_problem_promises_no_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call over HTTP is repeated by its caller only."""
    failure = StorageUnavailable("no response")

    def unavailable() -> Services:
        raise failure

    monkeypatch.setattr(fleet, "services", unavailable)
    response = await _call("refresh_all", _request("refresh"))
    assert json.loads(response.get_body())["remedy"] == failure.final_remedy != failure.remedy


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"\xff\xfe", b'{"operation": "x"}', b'{"cluster": "x"}', b"[" * 5000]
)
@pytest.mark.parametrize("name", ["onboarding", "refresh"])
async def test_garbage_on_a_poison_queue_is_reported(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str, body: bytes
) -> None:
    """And does not raise, because its message would stay on the queue."""
    module = {"onboarding": onboarding, "refresh": refresh}[name]
    monkeypatch.setattr(module, "services", lambda: world.services)
    function = getattr(module, f"{name}_poison")._function.get_user_function()

    await function(func.QueueMessage(body=body))

    (event,) = world.events.named("message.poisoned")
    assert event["category"] == "invalid_request"
    assert event["remedy"]


@pytest.mark.parametrize("name", ["onboarding", "refresh"])
async def test_a_poison_function_reports_an_app_that_cannot_be_built(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """If it raised, the message would move to a second poison queue, or come back for ever."""
    module = {"onboarding": onboarding, "refresh": refresh}[name]

    def broken() -> Services:
        raise InvalidSetting("AzureWebJobsStorage is missing")

    monkeypatch.setattr(module, "services", broken)
    await getattr(module, f"{name}_poison")._function.get_user_function()(func.QueueMessage(body=b"{}"))
    (event,) = world.events.named("message.poisoned")
    assert "AzureWebJobsStorage" in event["detail"]
