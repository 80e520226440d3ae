"""What the app registers, and what is told before anything runs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from local.host import IndexingError
from local.host.registrations import HttpTrigger, Queue, TimerTrigger, load

pytestmark = pytest.mark.usefixtures("fresh_imports")
Write = Callable[..., Path]

ONE_OF_EACH = """
@app.route("things/{name}", methods=["get", "POST"], auth_level=func.AuthLevel.ADMIN)
async def web(req: func.HttpRequest, context: func.Context) -> str: ...

@app.function_name("Clock")
@app.timer_trigger(arg_name="timer", schedule="%WHEN%")
async def clock(timer: func.TimerRequest) -> None: ...

@app.queue_trigger(arg_name="message", queue_name="%PREFIX%-Jobs", connection="Storage")
@app.queue_output(arg_name="out", queue_name="done", connection="Other")
async def job(message: func.QueueMessage, out: func.Out[str]) -> None: ...
"""


def test_each_kind_of_trigger_is_read(write_app: Write) -> None:
    web, clock, job = load(write_app(ONE_OF_EACH), {"WHEN": "0 * * * * *", "PREFIX": "My"})
    assert (web.name, web.parameter, web.wants_context) == ("web", "req", True)
    assert web.trigger == HttpTrigger("things/{name}", frozenset({"GET", "POST"}), "admin")
    assert (clock.name, clock.parameter, clock.trigger) == (
        "Clock",
        "timer",
        TimerTrigger("0 * * * * *"),
    )
    assert (job.name, job.trigger) == ("job", Queue("my-jobs", "Storage"))
    assert job.outputs == {"out": Queue("done", "Other")}


def test_a_route_is_the_functions_name_and_asks_for_a_key_unless_told(write_app: Write) -> None:
    (web,) = load(write_app("@app.route()\nasync def plain(req: func.HttpRequest) -> str: ..."), {})
    assert web.trigger == HttpTrigger("plain", frozenset(), "function")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("", "registers no functions"),
        ("other = func.FunctionApp()", "exactly one function app object, not 2"),
        (
            '@app.timer_trigger(arg_name="timer", schedule="%NOT_SET%")\nasync def t(timer: func.TimerRequest): ...',
            "'%NOT_SET%' does not resolve to a value",
        ),
        (
            '@app.timer_trigger(arg_name="timer", schedule="0 * * * * *")\nasync def t(other: func.TimerRequest): ...',
            r"t: parameters \['other'\] do not match bindings \['timer'\]",
        ),
        (
            '@app.blob_trigger(arg_name="b", path="c/{n}", connection="S")\nasync def t(b: func.InputStream): ...',
            "t: this host has no 'blobTrigger' binding",
        ),
    ],
)
def test_what_cannot_be_indexed_is_told(write_app: Write, code: str, told: str) -> None:
    with pytest.raises(IndexingError, match=told):
        load(write_app(code), {})


def test_the_same_name_twice_is_refused_by_the_app_object(write_app: Write) -> None:
    twice = "@app.route()\nasync def same(req: func.HttpRequest) -> str: ...\n" * 2
    with pytest.raises(ValueError, match="same"):
        load(write_app(twice), {})


def test_an_import_error_is_the_apps_own(write_app: Write) -> None:
    """Azure says «0 functions found» and no more; here the traceback is seen."""
    with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
        load(write_app("import nowhere_to_be_found"), {})
