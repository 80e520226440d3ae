"""Every invocation has a deadline, and an unexpected exception is reported without its text."""

import asyncio
import json
import logging
import time
from datetime import timedelta
from functools import partial
from types import ModuleType, SimpleNamespace

import azure.functions as func
import pytest

from functions import onboarding, refresh, schedule
from functions.invocation import poison_trigger, run, trigger
from functions.responses import problem_response
from functions.route import route
from pullkeeper import errors
from pullkeeper.deadline import INVOCATION, remaining
from pullkeeper.documentation import Documentation
from pullkeeper.errors import DeadlinePassed, InternalError, StorageUnavailable
from pullkeeper.onboarding.documents import OnboardingMessage
from pullkeeper.onboarding.run import LONGEST
from pullkeeper.services import Services

# The log shows the line that raises, so the text must not stand in it as a whole.
_DASH = "-"


async def test_an_unexpected_exception_is_raised_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_: object) -> None:
        raise ValueError(f"ya29{_DASH}quoted")

    with caplog.at_level(logging.INFO), pytest.raises(InternalError, match=r"^internal: ValueError$") as raised:
        await trigger(broken)("message")
    assert raised.value.__context__ is None, "a suppressed context could still be logged"
    assert "ya29-quoted" not in caplog.text
    assert "broken failed: ValueError" in caplog.text
    assert "test_invocation.py" in caplog.text


@pytest.mark.parametrize("module", [onboarding, refresh, schedule], ids=lambda module: module.__name__)
async def test_no_function_raises_a_text_of_others(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
    def fail() -> Services:
        raise ValueError(f"ya29{_DASH}quoted")

    monkeypatch.setattr(module, "services", fail)
    function = getattr(module, module.__name__.rpartition(".")[2])._function.get_user_function()
    with pytest.raises(InternalError, match=r"^internal: ValueError$"):
        await function(func.QueueMessage(id="1", body=b"{}"))


async def test_a_known_failure_is_raised_as_it_is() -> None:
    failure = StorageUnavailable("queues: down")

    async def failing(_: object) -> None:
        raise failure

    with pytest.raises(StorageUnavailable) as raised:
        await trigger(failing)("message")
    assert raised.value is failure


_SHORT = timedelta(milliseconds=50)


async def test_every_call_of_an_invocation_has_its_deadline() -> None:
    seen = []

    async def function() -> None:
        seen.append(remaining(10 * INVOCATION.total_seconds()))

    await trigger(function)()

    assert INVOCATION.total_seconds() - 5 < seen[0] <= INVOCATION.total_seconds()


async def test_waiting_for_a_place_takes_nothing_from_the_time_of_an_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    async def work(_: OnboardingMessage) -> None:
        seen.append(remaining(10 * LONGEST.total_seconds()))

    runner = SimpleNamespace(run=work)
    monkeypatch.setattr("functions.onboarding.services", lambda: SimpleNamespace(runner=runner))
    body = OnboardingMessage(operation="0" * 32).to_json()
    await onboarding.onboarding._function.get_user_function()(func.QueueMessage(id="1", body=body.encode()))

    assert LONGEST.total_seconds() - 5 < seen[0] <= LONGEST.total_seconds()


async def test_an_invocation_is_cancelled_at_its_deadline(caplog: pytest.LogCaptureFixture) -> None:
    """With a failure of its own, although what it waits for would be an outage of storage at the same time."""
    cancelled = []

    async def wait() -> None:
        try:
            async with asyncio.timeout(remaining(30)):
                await asyncio.Event().wait()
        except TimeoutError:
            raise StorageUnavailable("tables: no response") from None
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    begin = time.monotonic()
    with pytest.raises(DeadlinePassed, match="refresh was cancelled after 0 s"):
        await run("refresh", wait(), _SHORT)

    assert time.monotonic() - begin < 1
    assert cancelled
    assert "refresh was cancelled" in caplog.text


async def test_a_route_at_its_deadline_responds_with_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host would respond with 500 and no body, after it has ended the worker."""
    monkeypatch.setattr("functions.route.run", partial(run, limit=_SHORT))

    @route(None)
    async def clusters(_: func.HttpRequest) -> func.HttpResponse:
        await asyncio.Event().wait()
        raise AssertionError("never")

    response = await clusters(func.HttpRequest("GET", "https://app.example/api/clusters", body=b""))

    problem = json.loads(response.get_body())
    assert (response.status_code, problem["status"], problem["category"]) == (503, 503, "internal")
    assert "clusters was cancelled" in problem["detail"]
    assert problem["remedy"]


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (errors.InvalidRequest, 400),
        (errors.Forbidden, 403),
        (errors.NotInFleet, 404),
        (errors.UnknownHub, 404),
        (errors.OperationRunning, 409),
        (errors.TooLarge, 413),
        (errors.InternalError, 500),
        (errors.ClusterUnreachable, 502),
        (errors.StorageUnavailable, 503),
        (errors.UnknownFormat, 503),
        (errors.InvalidSetting, 503),
    ],
)
def test_a_caller_learns_whose_fault_it_is(failure: type[errors.PullkeeperError], status: int) -> None:
    """4xx: the request's. 500: a bug. 502: a service behind the app. 503: the app's state, which may change."""
    response = problem_response(failure("no"), Documentation())
    assert response.status_code == status
    assert json.loads(response.get_body())["title"] == failure.meaning != ""


async def test_a_timeout_of_a_call_is_not_the_deadline() -> None:
    async def call() -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    with pytest.raises(InternalError, match=r"^internal: TimeoutError$") as raised:
        await run("refresh", call())
    assert not isinstance(raised.value, DeadlinePassed)


async def test_a_function_on_a_poison_queue_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    """Its message would get into a second poison queue, or stay hidden for ever."""

    @poison_trigger
    async def refresh_poison(failure: Exception) -> None:
        raise failure

    await refresh_poison(StorageUnavailable("tables: down"))
    await refresh_poison(ValueError(f"ya29{_DASH}quoted"))

    events = [record for record in caplog.records if hasattr(record, "microsoft.custom_event.name")]
    names = {vars(event)["microsoft.custom_event.name"] for event in events}
    assert names == {"message.poisoned"}
    assert {event.levelname for event in events} == {"ERROR"}
    assert [vars(event)["category"] for event in events] == ["storage_unavailable", "internal"]
    assert "function=refresh_poison" in events[0].getMessage()
    assert "az storage account show" in events[0].getMessage()
    assert "ya29-quoted" not in caplog.text
