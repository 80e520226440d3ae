"""HTTP triggers, beside what the recordings show."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from local.host.invocation import FunctionTimeoutError
from tests.local.host.conftest import Hosted, until

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
    gate = asyncio.Event()

    @app.route("slow", auth_level=func.AuthLevel.ANONYMOUS)
    async def slow(req: func.HttpRequest) -> str:
        seen.append("began")
        await gate.wait()
        seen.append("done")
        return "done"
    """
    host = await hosted(write_app(code))
    call = asyncio.create_task(host.get("/api/slow"))
    await until(lambda: host.seen == ["began"])
    call.cancel()
    await asyncio.wait({call})
    host.module.gate.set()
    await until(lambda: host.seen == ["began", "done"])


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
