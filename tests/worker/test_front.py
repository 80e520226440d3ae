"""The front itself, with apps of a few lines: what Microsoft's worker accepts, refuses and returns."""

import sys
from collections.abc import Awaitable, Callable

import pytest

from tests.worker.conftest import FAILURE, SUCCESS, Worker

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 13), reason="Microsoft publishes the worker's library for Python 3.13 and later only"
)
Start = Callable[..., Awaitable[Worker]]

ONE_OF_EACH = """
import azure.functions as func

app = func.FunctionApp()

@app.route("things/{name}", methods=["POST"])
async def web(req: func.HttpRequest) -> func.HttpResponse:
    body = f"{req.method} {req.route_params['name']} {req.params['q']} {req.headers['X-Mine']} {req.get_json()}"
    return func.HttpResponse(body, status_code=202, headers={"Retry-After": "5"})

@app.timer_trigger(arg_name="timer", schedule="%WHEN%", run_on_startup=False)
async def clock(timer: func.TimerRequest) -> None:
    print("past due:", timer.past_due)

@app.queue_trigger(arg_name="message", queue_name="jobs", connection="AzureWebJobsStorage")
@app.queue_output(arg_name="out", queue_name="done", connection="AzureWebJobsStorage")
def job(message: func.QueueMessage, out: func.Out[str]) -> None:
    if message.dequeue_count > 4:
        raise RuntimeError("too many tries")
    out.set(f"{message.id} {message.dequeue_count} {message.insertion_time:%Y} {message.get_body().decode()}")
"""
METADATA = {
    "Id": "the-id",
    "DequeueCount": 2,
    "InsertionTime": "2026-11-24T02:00:00+00:00",
    "ExpirationTime": "2026-12-01T02:00:00+00:00",
    "NextVisibleTime": "2026-11-24T02:10:00+00:00",
    "PopReceipt": "the-receipt",
}


async def test_it_indexes_an_app(worker: Start) -> None:
    indexed = (await worker(ONE_OF_EACH)).indexed["functions"]
    triggers = {name: function["bindings"] for name, function in indexed.items()}
    assert {"web", "clock", "job"} == triggers.keys()
    assert {"httpTrigger", "http"} == {binding["type"] for binding in triggers["web"]}
    (timer,) = triggers["clock"]
    assert (timer["type"], timer["schedule"], timer["runOnStartup"]) == ("timerTrigger", "%WHEN%", False)
    assert {"jobs", "done"} == {binding["queueName"] for binding in triggers["job"]}


async def test_it_invokes_an_http_function(worker: Start) -> None:
    request = {
        "method": "POST",
        "url": "http://localhost/api/things/n?q=1",
        "headers": {"x-mine": "yes"},
        "params": {"name": "n"},
        "query": {"q": "1"},
        "body": '{"a": 1}',
    }
    response = await (await worker(ONE_OF_EACH)).invoke("web", http=request)
    assert response["result"] == {"status": SUCCESS}
    http = response["return_value"]["http"]
    assert (http["status_code"], http["body"]["bytes"]) == ("202", "POST n 1 yes {'a': 1}")
    assert http["headers"]["Retry-After"] == "5"


async def test_it_invokes_a_timer(worker: Start) -> None:
    running = await worker(ONE_OF_EACH)
    response = await running.invoke("clock", timer={"IsPastDue": True, "Schedule": {}, "ScheduleStatus": {}})
    assert response["result"] == {"status": SUCCESS}
    assert "past due: True" in running.log


async def test_it_invokes_a_queue_function_and_collects_its_output(worker: Start) -> None:
    response = await (await worker(ONE_OF_EACH)).invoke("job", queue={"body": "hello", "metadata": METADATA})
    assert response["result"] == {"status": SUCCESS}
    assert response["output_data"] == [{"name": "out", "data": {"string": "the-id 2 2026 hello"}}]


async def test_an_exception_is_a_failure_with_type_and_text(worker: Start) -> None:
    metadata = METADATA | {"DequeueCount": 5}
    response = await (await worker(ONE_OF_EACH)).invoke("job", queue={"body": "hello", "metadata": metadata})
    assert response["result"]["status"] == FAILURE
    assert response["result"]["exception"]["message"] == "RuntimeError: too many tries"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError"),
        ("import azure.functions as func\na = func.FunctionApp()\nb = func.FunctionApp()", "More than one FunctionApp"),
        ("print('nothing here')", "Could not find top level function app instances"),
        (
            """
            import azure.functions as func
            app = func.FunctionApp()
            @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
            async def tick(other: func.TimerRequest) -> None: ...
            """,
            "tick",
        ),
        (
            """
            import azure.functions as func
            app = func.FunctionApp()
            @app.queue_trigger(arg_name="message", queue_name="jobs", connection="S")
            @app.queue_output(arg_name="out", queue_name="done", connection="S")
            async def job(message: func.QueueMessage, out: func.Out[list[str]]) -> None: ...
            """,
            "job",
        ),
    ],
)
async def test_an_app_that_cannot_be_indexed_is_reported(worker: Start, code: str, message: str) -> None:
    indexed = (await worker(code)).indexed
    assert indexed.keys() == {"error"}
    assert message in indexed["error"]
