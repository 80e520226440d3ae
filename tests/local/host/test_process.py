"""The host as a process: how it starts, how it ends, and what a kill leaves behind."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from local.function_host import HostProcess
from local.host import Keys
from tests.local.host.conftest import until

ROOT = Path(__file__).parents[3]
Write = Callable[..., Path]

SLOW = """
@app.route("slow", auth_level=func.AuthLevel.ANONYMOUS)
async def slow(req: func.HttpRequest) -> str:
    print("slow began", flush=True)
    await asyncio.sleep(float(req.params["seconds"]))
    return "done"
"""


def refused(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", urlsplit(url).port or 0)) != 0


async def test_sigterm_is_ignored(write_app: Write) -> None:
    """As the real host ignores it."""
    async with HostProcess(write_app(SLOW), {}) as process, aiohttp.ClientSession() as session:
        process._process.terminate()
        assert await _text(session, f"{process.url}/api/slow?seconds=0.3") == "done"


async def test_a_timeout_ends_the_process_and_names_the_function(write_app: Write) -> None:
    app = write_app(SLOW, functionTimeout="00:00:00.2")
    async with HostProcess(app, {}) as process, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await _text(session, f"{process.url}/api/slow?seconds=60")
        assert await process._process.wait() == 1
        assert "'Functions.slow' has not ended after 0.2 s (functionTimeout)" in process.output


async def _text(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as answer:
        return await answer.text()


async def test_it_ends_with_the_process_that_started_it(write_app: Write) -> None:
    script = f"""
import asyncio
from pathlib import Path
from local.function_host import HostProcess

async def main():
    async with HostProcess(Path({str(write_app(SLOW))!r}), {{}}) as process:
        print(process.url, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    url = (await parent.stdout.readline()).decode().strip()
    assert not refused(url)
    parent.kill()
    await parent.communicate()
    await until(lambda: refused(url))


async def test_no_other_program_gets_the_port_while_it_restarts(write_app: Write) -> None:
    async with HostProcess(write_app(SLOW), {}) as process:
        url = process.url
        await process.stop()
        assert refused(url)
        with socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
            other.bind(("127.0.0.1", process.port))
        await process.restart()
        assert process.url == url
        assert not refused(url)


async def test_a_wrong_host_json_ends_the_process_with_its_reason(write_app: Write) -> None:
    with pytest.raises(RuntimeError, match=r"SettingsError: host\.json: .*version"):
        async with HostProcess(write_app("", version="1.0"), {}):
            pass


LOGGING = """
import logging

@app.route("log", auth_level=func.AuthLevel.ANONYMOUS)
async def log(req: func.HttpRequest) -> str:
    logging.getLogger("azure.core.pipeline.policies.http_logging_policy").info("a request of the app")
    return "done"

@app.queue_trigger(arg_name="message", queue_name="jobs", connection="AzureWebJobsStorage")
async def job(message: func.QueueMessage) -> None: ...
"""


@pytest.mark.servers
async def test_no_logger_of_the_app_is_silenced_and_polls_of_the_host_are_not_in_the_log(
    write_app: Write, storage: str
) -> None:
    app = write_app(LOGGING)
    async with HostProcess(app, {"AzureWebJobsStorage": storage}) as process, aiohttp.ClientSession() as session:
        assert await _text(session, f"{process.url}/api/log") == "done"
        await until(lambda: "ResourceNotFoundError" in process.output)
        assert "INFO a request of the app" in process.output
        assert "Request URL" not in process.output


def test_keys_are_written_once_and_readable_for_their_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    made = Keys.at(file)
    assert Keys.at(file) == made
    assert file.stat().st_mode & 0o077 == 0
    assert len({made.master, made.default, ""}) == 3
