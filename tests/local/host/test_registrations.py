"""What the app registers, and what is reported before anything runs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from local.host import UnsupportedError
from local.host.registrations import HttpTrigger, QueueTrigger, TimerTrigger, load

pytestmark = pytest.mark.usefixtures("fresh_imports")
Write = Callable[..., Path]

ONE_OF_EACH = """
@app.route("things/{name}", methods=["get", "POST"], auth_level=func.AuthLevel.ADMIN)
async def web(req: func.HttpRequest) -> str: ...

@app.function_name("Clock")
@app.timer_trigger(arg_name="timer", schedule="%WHEN%")
async def clock(timer: func.TimerRequest) -> None: ...

@app.queue_trigger(arg_name="message", queue_name="%PREFIX%-Jobs", connection="Storage")
async def job(message: func.QueueMessage) -> None: ...
"""


def test_each_kind_of_trigger_is_read(write_app: Write) -> None:
    web, clock, job = load(write_app(ONE_OF_EACH), {"WHEN": "0 * * * * *", "PREFIX": "My"})
    assert (web.name, web.parameter) == ("web", "req")
    assert web.trigger == HttpTrigger("things/{name}", frozenset({"GET", "POST"}), "admin")
    assert (clock.name, clock.parameter, clock.trigger) == ("Clock", "timer", TimerTrigger("0 * * * * *"))
    assert (job.name, job.trigger) == ("job", QueueTrigger("my-jobs", "Storage"))


def test_without_a_setting_the_app_has_one_function_less(write_app: Write, caplog: pytest.LogCaptureFixture) -> None:
    found = load(write_app(ONE_OF_EACH), {"PREFIX": "my"})
    assert [function.name for function in found] == ["web", "job"]
    assert "The function Clock is off: '%WHEN%' does not resolve to a value." in caplog.text


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", "0 functions found"),
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("other = func.FunctionApp()", "ValueError"),
        ("@app.route()\nasync def same(req: func.HttpRequest) -> str: ...\n" * 2, "same"),
        (
            '@app.timer_trigger(arg_name="timer", schedule="0 * * * * *")\nasync def t(other: func.TimerRequest): ...',
            "t: parameters ['other'] do not match bindings ['timer']",
        ),
    ],
    ids=["no functions", "import error", "two apps", "duplicate name", "wrong parameter"],
)
def test_an_app_that_cannot_be_indexed_has_no_functions(
    write_app: Write, caplog: pytest.LogCaptureFixture, code: str, message: str
) -> None:
    """The real host runs all the same, and so every route is 404."""
    caplog.set_level("INFO")
    assert load(write_app(code), {}) == []
    assert message in caplog.text


@pytest.mark.parametrize(
    ("code", "environment", "message"),
    [
        (
            '@app.blob_trigger(arg_name="b", path="c/{n}", connection="S")\nasync def t(b: func.InputStream): ...',
            {},
            "blob",
        ),
        ("@app.route()\nasync def t(req: func.HttpRequest): ...", {"AzureWebJobs.t.Disabled": "true"}, "Disabled"),
        (
            '@app.timer_trigger("t", "0 * * * * *", run_on_startup=True)\nasync def timer(t: func.TimerRequest): ...',
            {},
            "run_on_startup",
        ),
    ],
    ids=["binding", "disabled", "run on startup"],
)
def test_what_this_host_does_not_play_ends_it_at_start(
    write_app: Write, code: str, environment: dict[str, str], message: str
) -> None:
    with pytest.raises(UnsupportedError, match=message):
        load(write_app(code), environment)
