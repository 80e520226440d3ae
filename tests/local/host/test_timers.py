"""Timer triggers: when they run, and how often at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local.host import UnsupportedError
from local.host.registrations import IndexingError
from local.host.timers import parse_schedule
from tests.local.host.conftest import BLOBS, Hosted, until

Start = Callable[..., Awaitable[Hosted]]
Write = Callable[..., Path]
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("0 */5 * * * *", timedelta(minutes=5)),
        ("*/10 * * * * *", timedelta(seconds=10)),
        ("30 0 12 * * *", timedelta(hours=12, seconds=30)),
        ("0 0 0 * * MON-FRI", timedelta(days=1)),
        ("0 0 9 * * 1", timedelta(days=4, hours=9)),
        ("0 0 0 13 * 5", timedelta(days=43)),
        ("0 0 0 * FEB *", timedelta(days=31)),
    ],
)
def test_the_next_run_of_a_schedule(text: str, after: timedelta) -> None:
    assert parse_schedule(text)(NEW_YEAR) == NEW_YEAR + after


@pytest.mark.parametrize("text", ["", "often", "61 * * * * *", "* * * * * * *", "0 0 0 L * *", "0 0 0 * * 7"])
def test_what_is_no_schedule_is_an_error_of_its_function(text: str) -> None:
    with pytest.raises(IndexingError, match="six fields"):
        parse_schedule(text)


@pytest.mark.parametrize("text", ["*/5 * * * *", "00:05:00"])
def test_a_schedule_of_five_fields_or_a_time_span_ends_the_host_at_start(text: str) -> None:
    """Azure takes five fields, and time spans on some plans. The app needs neither."""
    with pytest.raises(UnsupportedError, match=r"five fields|time span"):
        parse_schedule(text)


RECORDING = """
@app.timer_trigger(arg_name="timer", schedule="%WHEN%")
async def tick(timer: func.TimerRequest) -> None:
    seen.append(timer)
"""


async def test_it_runs_by_a_schedule_from_the_settings(write_app: Write, hosted: Start) -> None:
    began = time.monotonic()
    host = await hosted(write_app(RECORDING), BLOBS | {"WHEN": "* * * * * *"})
    await until(lambda: len(host.seen) == 3)
    assert time.monotonic() - began >= 1.9, "two whole seconds lie between three runs"
    assert not host.seen[-1].past_due


@pytest.mark.parametrize("settings", [{"WHEN": "* * * * * *"}, {"WHEN": "61 * * * * *", **BLOBS}, BLOBS])
async def test_without_blobs_or_a_schedule_the_host_runs_and_the_timer_does_not(
    write_app: Write, hosted: Start, settings: dict[str, str]
) -> None:
    """As with a table and a queue address alone."""
    addresses = {f"AzureWebJobsStorage__{name}ServiceUri": "https://example.invalid" for name in ("table", "queue")}
    host = await hosted(write_app(RECORDING), addresses | settings)
    await asyncio.sleep(1.2)
    assert host.seen == []
    assert (await host.get("/"))[0] == 200


@pytest.mark.parametrize("name", ["AzureWebJobsStorage__accountName", "AzureWebJobsStorage__blobServiceUri"])
async def test_an_account_name_is_enough_for_timers(write_app: Write, hosted: Start, name: str) -> None:
    host = await hosted(write_app(RECORDING), {"WHEN": "* * * * * *", name: "example"})
    await until(lambda: host.seen)


async def test_a_run_that_takes_long_is_alone_and_caught_up_on_once(write_app: Write, hosted: Start) -> None:
    """Three runs fall into the first one's time; one makes up for them."""
    code = """
    at_once = 0

    @app.timer_trigger(arg_name="timer", schedule="* * * * * *")
    async def tick(timer: func.TimerRequest) -> None:
        global at_once
        at_once += 1
        seen.append(("began", at_once, asyncio.get_running_loop().time()))
        await asyncio.sleep(3.5 if len(seen) == 1 else 0)
        at_once -= 1
        seen.append(("ended", at_once, asyncio.get_running_loop().time()))
    """
    host = await hosted(write_app(code), BLOBS)
    await until(lambda: len(host.seen) >= 4 and host.seen[-1][0] == "ended")
    first_end, second_begin = host.seen[1][2], host.seen[2][2]
    assert [count for kind, count, _ in host.seen if kind == "began"] == [1] * (len(host.seen) // 2)
    assert second_begin - first_end < 0.5
    assert len(host.seen) in {4, 6}
