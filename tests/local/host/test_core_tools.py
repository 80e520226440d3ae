"""Core Tools as the host: what the program `func` is started with, how it is known to be ready, and how it is ended."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from local.function_host import host_process
from tests.local.host.conftest import until

Write = Callable[..., Path]
ROOT = Path(__file__).parents[3]
# As `func start` does, it asks for no keys, ignores SIGTERM, and has a worker that outlives it.
FUNC = f"""#!{sys.executable}
import json, os, pathlib, subprocess, sys

sys.path.insert(0, {str(ROOT)!r})
from local.host import __main__, keys

worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
settings = json.loads(pathlib.Path("local.settings.json").read_text())
files = sorted(str(path) for path in pathlib.Path().rglob("*") if path.is_file())
seen = {{"arguments": sys.argv[1:], "settings": settings, "files": files, "worker": worker.pid, "pid": os.getpid()}}
pathlib.Path(os.environ["SEEN"]).write_text(json.dumps(seen))
keys.Keys.level = lambda *_: 2
sys.argv = ["func", *sys.argv[2:]]
__main__.main()
os._exit(0)
"""

SLOW = """
import os

@app.route("slow")
async def slow(req: func.HttpRequest) -> str:
    print("slow began", flush=True)
    await asyncio.sleep(float(req.params["seconds"]))
    return os.environ["GREETING"]
"""


@pytest.fixture
def func(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that CORE_TOOLS names."""
    program = tmp_path_factory.mktemp("core-tools") / "func"
    program.write_text(FUNC)
    program.chmod(0o755)
    monkeypatch.setenv("CORE_TOOLS", str(program))
    monkeypatch.setenv("PYTHONPATH", ".")  # the copy, which then is in the path behind another function_app.py
    return program


def is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


async def test_func_runs_a_copy_of_the_app_and_stops_with_sigint(write_app: Write, func: Path) -> None:
    """With the settings of the test alone. Its worker is killed."""
    app, file = write_app(SLOW), func.with_name("seen.json")
    (app / "tests").mkdir()
    (app / "tests" / "test_app.py").touch()
    (app / ".funcignore").write_text("tests/\nlocal.settings*.json\n")
    own = app / "local.settings.json"
    own.write_text('{"Values": {"GREETING": "of the developer"}}')
    environment = {"GREETING": "hello", "SEEN": str(file)}
    async with host_process(app, environment) as process, aiohttp.ClientSession() as session:
        seen = json.loads(file.read_text())
        os.kill(seen["pid"], signal.SIGTERM)
        call = asyncio.create_task(_text(session, f"{process.url}/api/slow?seconds=1"))
        await until(lambda: "slow began" in process.output or call.done(), within=60)
        assert not call.done(), process.output
        assert await process.stop() == 0
        assert await call == "hello"
        await until(lambda: not is_running(seen["worker"]))
    values = {"FUNCTIONS_WORKER_RUNTIME": "python", **environment}
    assert seen["arguments"] == ["start", "--port", process.url.rpartition(":")[2]]
    assert seen["settings"] == {"IsEncrypted": False, "Values": values}
    assert set(seen["files"]) >= {"function_app.py", "host.json", "local.settings.json"}
    assert not any(name.startswith("tests") for name in seen["files"])
    assert own.read_text() == '{"Values": {"GREETING": "of the developer"}}'


@pytest.mark.usefixtures("func")
def test_func_takes_no_options_of_the_local_host(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--invisibility"):
        host_process(tmp_path, {}, options=("--invisibility", "3"))


async def _text(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as response:
        return await response.text()
