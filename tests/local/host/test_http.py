"""HTTP triggers, beside what the recordings show."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from local.host.invocation import FunctionTimeoutError
from tests.local.host.conftest import KEYS, Hosted, until

Start = Callable[..., Awaitable[Hosted]]
Write = Callable[..., Path]

OPEN = """
@app.route("open", methods=["GET", "POST"], auth_level=func.AuthLevel.ANONYMOUS)
async def open_to_all(req: func.HttpRequest) -> str:
    seen.append(req)
    return "come in"
"""


async def test_a_connection_serves_several_requests(write_app: Write, hosted: Start) -> None:
    host = await hosted(write_app(OPEN))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(host.host.url.rpartition(":")[2]))
    for body in ("one", "two"):
        writer.write(f"POST /api/open HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n{body}".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert await reader.readuntil(b"\r\n0\r\n\r\n") == b"7\r\ncome in\r\n0\r\n\r\n"
    writer.close()
    await writer.wait_closed()
    assert [request.get_body() for request in host.seen] == [b"one", b"two"]


async def test_a_chunked_body_arrives_empty(write_app: Write, hosted: Start) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"the body"

    host = await hosted(write_app(OPEN))
    assert await host.request("POST", "/api/open", data=chunks()) == (200, "come in")
    assert [request.get_body() for request in host.seen] == [b""]


FAILING = """
@app.route("raises", auth_level=func.AuthLevel.ANONYMOUS)
async def raises(req: func.HttpRequest) -> func.HttpResponse:
    raise ValueError("the inner text")

@app.route("dict", auth_level=func.AuthLevel.ANONYMOUS)
async def returns_dict(req: func.HttpRequest):
    return {"not": "an answer"}
"""


@pytest.mark.parametrize("path", ["raises", "dict"])
async def test_a_failure_is_500_without_a_body(
    write_app: Write, hosted: Start, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    host = await hosted(write_app(FAILING))
    assert await host.get(f"/api/{path}") == (500, "")
    assert any("(Failed, " in record.getMessage() for record in caplog.records)


async def test_a_body_over_100_megabytes_is_500(write_app: Write, hosted: Start) -> None:
    host = await hosted(write_app(OPEN))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(host.host.url.rpartition(":")[2]))
    size = 100 * 1024 * 1024 + 1
    writer.write(f"POST /api/open HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
    status = await reader.readline()
    writer.close()
    await writer.wait_closed()
    assert status.startswith(b"HTTP/1.1 500 ")
    assert host.seen == []


async def test_the_route_prefix_is_host_jsons(write_app: Write, hosted: Start) -> None:
    host = await hosted(write_app(OPEN, extensions={"http": {"routePrefix": ""}}))
    assert await host.get("/open") == (200, "come in")
    assert (await host.get("/api/open"))[0] == 404


SLOW = """
import time

@app.route("thread", auth_level=func.AuthLevel.ANONYMOUS)
def in_a_thread(req: func.HttpRequest) -> str:
    time.sleep(0.3)
    return "done"

@app.route("loop", auth_level=func.AuthLevel.ANONYMOUS)
async def in_the_loop(req: func.HttpRequest) -> str:
    await asyncio.sleep(0.3)
    return "done"

@app.route("forever", auth_level=func.AuthLevel.ANONYMOUS)
async def forever(req: func.HttpRequest) -> str:
    await asyncio.Event().wait()

@app.route("cancelled", auth_level=func.AuthLevel.ANONYMOUS)
async def cancelled(req: func.HttpRequest) -> str:
    raise asyncio.CancelledError
"""


async def test_functions_run_side_by_side(write_app: Write, hosted: Start) -> None:
    """Sync ones in threads, async ones in the loop: eight take as long as one."""
    host = await hosted(write_app(SLOW))
    started = asyncio.get_running_loop().time()
    answers = await asyncio.gather(*(host.get(path) for path in ["/api/thread", "/api/loop"] * 4))
    assert set(answers) == {(200, "done")}
    assert asyncio.get_running_loop().time() - started < 1.2


@pytest.mark.parametrize("path", ["forever", "cancelled"])
async def test_a_timeout_ends_the_host_and_names_the_function(write_app: Write, hosted: Start, path: str) -> None:
    """A CancelledError that escapes a function is such a case: Microsoft's worker never answers it."""
    host = await hosted(write_app(SLOW, functionTimeout="00:00:00.5"), grace=timedelta(0))
    call = asyncio.create_task(host.get(f"/api/{path}"))
    with pytest.raises(FunctionTimeoutError, match=rf"Functions\..*{path}"):
        await asyncio.wait_for(host.host.failure(), 20)
    assert not call.done()
    call.cancel()


async def test_a_client_that_leaves_does_not_stop_the_function(write_app: Write, hosted: Start) -> None:
    code = """
    @app.route("slow", auth_level=func.AuthLevel.ANONYMOUS)
    async def slow(req: func.HttpRequest) -> str:
        await asyncio.sleep(0.5)
        seen.append("done")
        return "done"
    """
    host = await hosted(write_app(code))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(host.get("/api/slow"), 0.2)
    await until(lambda: host.seen == ["done"])


ADMIN = """
@app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *")
async def yearly(timer: func.TimerRequest) -> None:
    seen.append("began")
    await asyncio.sleep(0.3)
    seen.append("ended")
"""


async def test_the_master_key_runs_a_timer_by_hand_in_parallel(write_app: Write, hosted: Start) -> None:
    host = await hosted(write_app(ADMIN))
    options = {"headers": {"x-functions-key": KEYS.master}, "json": {"input": ""}}
    for _ in range(2):
        assert await host.request("POST", "/admin/functions/YEARLY", **options) == (202, "")
    await until(lambda: len(host.seen) == 4)
    assert host.seen == ["began", "began", "ended", "ended"]


async def test_the_host_is_running_for_who_has_the_master_key(write_app: Write, hosted: Start) -> None:
    host = await hosted(write_app(OPEN))
    status, body = await host.get("/admin/host/status", KEYS.master)
    assert (status, json.loads(body)["state"]) == (200, "Running")


async def test_the_log_names_each_call_and_has_no_body(
    write_app: Write, hosted: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    host = await hosted(write_app(OPEN))
    await host.request("POST", "/api/open", data=b"the-body")
    lines = [record.getMessage() for record in caplog.records if record.name == "local.host"]
    assert [line.partition(" (")[0] for line in lines] == [
        "1 functions found",
        "Executing 'Functions.open_to_all'",
        "Executed 'Functions.open_to_all'",
    ]
    assert "the-body" not in caplog.text
