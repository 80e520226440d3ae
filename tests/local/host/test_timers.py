"""Timer triggers: when they run, how often at once, and what they are told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local.host.monitor import Monitor, Status
from local.host.registrations import IndexingError
from local.host.timers import schedule
from tests.local.host.conftest import Hosted, until

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
        ("00:01:30", timedelta(seconds=90)),
        ("1.00:00:00", timedelta(days=1)),
    ],
)
def test_the_next_run_of_a_schedule(text: str, after: timedelta) -> None:
    assert schedule(text)(NEW_YEAR) == NEW_YEAR + after


@pytest.mark.parametrize(
    "text", ["", "often", "*/5 * * * *", "61 * * * * *", "* * * * * * *", "0 0 0 L * *", "0 0 0 * * 7"]
)
def test_what_is_no_schedule_is_told_when_indexing(text: str) -> None:
    """Azure takes five fields as well, without seconds. Six are asked for here, so that nobody misreads one."""
    with pytest.raises(IndexingError, match="six fields"):
        schedule(text)


RECORDING = """
@app.timer_trigger(arg_name="timer", schedule="%WHEN%", run_on_startup=False)
async def tick(timer: func.TimerRequest) -> None:
    seen.append(timer)
"""


async def test_it_runs_by_a_schedule_from_the_settings(write_app: Write, hosted: Start) -> None:
    host = await hosted(write_app(RECORDING), {"WHEN": "* * * * * *"})
    await asyncio.sleep(2.2)
    assert len(host.seen) in {2, 3}
    timer = host.seen[-1]
    assert not timer.past_due
    assert datetime.fromisoformat(timer.schedule_status["Next"]) > datetime.now(UTC) - timedelta(seconds=1.5)


HOUR = timedelta(hours=1)


@pytest.fixture
async def monitor(storage: str) -> AsyncIterator[Monitor]:
    """What the host wrote down in the storage of the test."""
    monitor = Monitor({"AzureWebJobsStorage": storage})
    yield monitor
    await monitor.close()


@pytest.mark.servers
async def test_what_was_missed_while_no_host_ran_is_made_up_for_once(
    write_app: Write, hosted: Start, storage: str, monitor: Monitor
) -> None:
    """And the function is told."""
    this_hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    last = this_hour - 4 * HOUR
    await monitor.write("tick", Status(last=last, updated=last, next=last + HOUR))
    host = await hosted(write_app(RECORDING), {"WHEN": "0 0 * * * *", "AzureWebJobsStorage": storage})
    await until(lambda: host.seen)
    await asyncio.sleep(0.3)
    (timer,) = host.seen
    assert timer.past_due
    assert timer.schedule_status["Last"] == last.isoformat()
    written = await monitor.read("tick")
    assert written is not None
    assert written.last is not None
    assert written.last >= this_hour
    assert written.next > datetime.now(UTC)


@pytest.mark.servers
async def test_a_changed_schedule_is_not_past_due(
    write_app: Write, hosted: Start, storage: str, monitor: Monitor
) -> None:
    last = datetime.now(UTC) - 4 * HOUR
    await monitor.write("tick", Status(last=last, updated=last, next=last + timedelta(minutes=7)))
    host = await hosted(write_app(RECORDING), {"WHEN": "0 0 0 1 1 *", "AzureWebJobsStorage": storage})
    await asyncio.sleep(0.5)
    assert host.seen == []
    written = await monitor.read("tick")
    assert written is not None
    assert (written.next.month, written.next.day) == (1, 1)


@pytest.mark.servers
async def test_nobody_keeps_track_of_a_timer_that_is_quick(
    write_app: Write, hosted: Start, storage: str, monitor: Monitor
) -> None:
    host = await hosted(write_app(RECORDING), {"WHEN": "* * * * * *", "AzureWebJobsStorage": storage})
    await until(lambda: host.seen)
    assert await monitor.read("tick") is None


async def test_it_does_not_run_on_startup_unless_told(write_app: Write, hosted: Start) -> None:
    host = await hosted(write_app(RECORDING), {"WHEN": "0 0 0 1 1 *"})
    await asyncio.sleep(0.3)
    assert host.seen == []


async def test_it_runs_on_startup_when_told(write_app: Write, hosted: Start) -> None:
    code = RECORDING.replace("run_on_startup=False", "run_on_startup=True")
    host = await hosted(write_app(code), {"WHEN": "0 0 0 1 1 *"})
    await until(lambda: len(host.seen) == 1)


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
    host = await hosted(write_app(code))
    await until(lambda: len(host.seen) >= 4)
    await asyncio.sleep(0.2)
    first_end, second_begin = host.seen[1][2], host.seen[2][2]
    assert [count for kind, count, _ in host.seen if kind == "began"] == [1] * (len(host.seen) // 2)
    assert second_begin - first_end < 0.5
    assert len(host.seen) in {4, 6}


async def test_a_failing_timer_runs_again_at_its_next_time_only(write_app: Write, hosted: Start) -> None:
    code = """
    @app.timer_trigger(arg_name="timer", schedule="* * * * * *")
    async def tick(timer: func.TimerRequest) -> None:
        seen.append(1)
        raise RuntimeError("no")
    """
    host = await hosted(write_app(code))
    await asyncio.sleep(2.2)
    assert len(host.seen) in {2, 3}


async def test_a_timer_returns_nothing(write_app: Write, hosted: Start, caplog: pytest.LogCaptureFixture) -> None:
    """Microsoft's worker refuses a value that no binding takes."""
    code = """
    @app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *", run_on_startup=True)
    async def tick(timer: func.TimerRequest) -> str:
        return "done"
    """
    await hosted(write_app(code))
    await until(lambda: "must be None" in caplog.text)
