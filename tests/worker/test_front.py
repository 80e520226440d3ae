"""The front itself, with apps of a few lines: what Microsoft's worker accepts, refuses and returns."""

import sys
from collections.abc import Awaitable, Callable

import pytest

from tests.worker.conftest import Worker

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 13), reason="Microsoft publishes the worker's library for Python 3.13 and later only"
)
Start = Callable[..., Awaitable[Worker]]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError"),
        ("import azure.functions as func\na = func.FunctionApp()\nb = func.FunctionApp()", "More than one FunctionApp"),
        (
            """
            import azure.functions as func
            app = func.FunctionApp()
            @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
            async def tick(other: func.TimerRequest) -> None: ...
            """,
            "tick",
        ),
    ],
)
async def test_an_app_that_cannot_be_indexed_is_reported(worker: Start, code: str, message: str) -> None:
    indexed = (await worker(code)).indexed
    assert indexed.keys() == {"error"}
    assert message in indexed["error"]
