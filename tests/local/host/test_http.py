"""HTTP triggers: what a caller sees, and what a function is given."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.local.host.conftest import KEYS, Hosted

Start = Callable[..., Awaitable[Hosted]]
Write = Callable[..., Path]

LEVELS = """
@app.route("open", auth_level=func.AuthLevel.ANONYMOUS)
async def open_to_all(req: func.HttpRequest) -> str:
    return "come in"

@app.route("usual")
async def usual(req: func.HttpRequest) -> str:
    return "come in"

@app.route("admins", auth_level=func.AuthLevel.ADMIN)
async def admins(req: func.HttpRequest) -> str:
    return "come in"
"""


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("open", "", 200),
        ("open", "nonsense", 200),
        ("usual", "", 401),
        ("usual", "nonsense", 401),
        ("usual", KEYS.default, 200),
        ("usual", KEYS.master, 200),
        ("admins", "", 401),
        ("admins", KEYS.default, 401),
        ("admins", KEYS.master, 200),
    ],
)
async def test_keys_open_what_their_level_allows(
    write_app: Write, hosted: Start, path: str, key: str, status: int
) -> None:
    host = await hosted(write_app(LEVELS))
    by_header = await host.get(f"/api/{path}", key)
    by_query = await host.get(f"/api/{path}?code={key}")
    assert (status, status) == (by_header[0], by_query[0])
    assert ("come in" in by_header[1]) == (status == 200)


ECHO = """
import json

@app.route("echo/{name}/{*rest}", methods=["GET", "POST"], auth_level=func.AuthLevel.ANONYMOUS)
async def echo(req: func.HttpRequest) -> func.HttpResponse:
    seen.append(req)
    body = json.dumps({"method": req.method, "route": dict(req.route_params), "query": dict(req.params)})
    headers = {"X-Kind": "echo", "Set-Cookie": "a=b; Path=/"}
    return func.HttpResponse(body, status_code=418, headers=headers, mimetype="application/json")
"""


async def test_a_function_is_given_the_request_and_its_answer_goes_out(write_app: Write, hosted: Start) -> None:
    host = await hosted(write_app(ECHO))
    url = f"{host.host.url}/api/Echo/n%20m/a%2Fb/c?x=1&x=2&y=%25"
    async with host.session.post(url, data=b"\x00\xff", headers={"X-Mine": "yes"}) as answer:
        document = await answer.json()
        assert (answer.status, answer.headers["X-Kind"], answer.cookies["a"].value) == (418, "echo", "b")
    assert document == {
        "method": "POST",
        "route": {"name": "n m", "rest": "a%2Fb/c"},
        "query": {"x": "1,2", "y": "%"},
    }
    (request,) = host.seen
    assert request.get_body() == b"\x00\xff"
    assert request.headers["x-mine"] == "yes"
    assert request.url == url


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/api/echo/n/r"),
        ("HEAD", "/api/echo/n/r"),
        ("GET", "/api/other"),
        ("GET", "/api/ot%0Aher"),
        ("GET", "/echo/n/r"),
        ("GET", "/"),
    ],
)
async def test_what_no_function_takes_is_not_found(write_app: Write, hosted: Start, method: str, path: str) -> None:
    """A method that the route does not take too: Azure answers 404 there, not 405."""
    host = await hosted(write_app(ECHO))
    assert (await host.request(method, path)) == (404, "")


FAILING = """
@app.route("raises", auth_level=func.AuthLevel.ANONYMOUS)
async def raises(req: func.HttpRequest) -> func.HttpResponse:
    raise ValueError("the inner text")

@app.route("dict", auth_level=func.AuthLevel.ANONYMOUS)
async def returns_dict(req: func.HttpRequest):
    return {"not": "an answer"}

@app.route("nothing", auth_level=func.AuthLevel.ANONYMOUS)
async def nothing(req: func.HttpRequest) -> None:
    return None
"""


@pytest.mark.parametrize("path", ["raises", "dict"])
async def test_a_failure_is_500_without_a_word(
    write_app: Write, hosted: Start, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    host = await hosted(write_app(FAILING))
    assert await host.get(f"/api/{path}") == (500, "")
    assert any("(Failed, " in record.getMessage() for record in caplog.records)


async def test_no_answer_is_no_content(write_app: Write, hosted: Start) -> None:
    host = await hosted(write_app(FAILING))
    assert await host.get("/api/nothing") == (204, "")


async def test_a_body_over_100_megabytes_is_refused(write_app: Write, hosted: Start) -> None:
    host = await hosted(write_app(ECHO))
    port = int(host.host.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    size = 100 * 1024 * 1024 + 1
    writer.write(f"POST /api/echo/n/r HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
    status = await reader.readline()
    writer.close()
    await writer.wait_closed()
    assert status.startswith(b"HTTP/1.1 413 ")
    assert host.seen == []


async def test_the_route_prefix_is_host_jsons(write_app: Write, hosted: Start) -> None:
    host = await hosted(write_app(LEVELS, extensions={"http": {"routePrefix": ""}}))
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
async def test_function_timeout_ends_what_never_ends(write_app: Write, hosted: Start, path: str) -> None:
    """A CancelledError that escapes a function is such a case: Microsoft's worker never answers it."""
    host = await hosted(write_app(SLOW, functionTimeout="00:00:00.5"))
    started = asyncio.get_running_loop().time()
    assert await host.get(f"/api/{path}") == (500, "")
    assert 0.4 < asyncio.get_running_loop().time() - started < 5


ADMIN = """
@app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *")
async def yearly(timer: func.TimerRequest) -> None:
    seen.append(timer.past_due)

@app.route("open", auth_level=func.AuthLevel.ANONYMOUS)
async def anyone(req: func.HttpRequest) -> str:
    return "come in"
"""


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (("yearly", KEYS.master, b'{"input": ""}'), 202),
        (("yearly", KEYS.master, b"{}"), 202),
        (("yearly", KEYS.master, b"no json"), 400),
        (("yearly", KEYS.master, b"[]"), 400),
        (("yearly", KEYS.default, b'{"input": ""}'), 401),
        (("yearly", "", b'{"input": ""}'), 401),
        (("nobody", KEYS.master, b'{"input": ""}'), 404),
    ],
)
async def test_the_master_key_runs_a_timer_by_hand(
    write_app: Write, hosted: Start, request_: tuple[str, str, bytes], status: int
) -> None:
    host = await hosted(write_app(ADMIN))
    name, key, body = request_
    answer = await host.request("POST", f"/admin/functions/{name}", headers={"x-functions-key": key}, data=body)
    assert answer == (status, "")
    await asyncio.sleep(0.1)
    assert host.seen == ([False] if status == 202 else [])


async def test_the_log_has_one_line_a_call_and_no_body(
    write_app: Write, hosted: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    host = await hosted(write_app(ECHO))
    await host.request("POST", "/api/echo/n/r", data=b"the-body")
    lines = [record.getMessage() for record in caplog.records if record.name == "local.host"]
    assert len(lines) == 1
    assert lines[0].startswith("Executed 'Functions.echo' (Succeeded, Id=")
    assert "the-body" not in caplog.text
