"""The app hosted in a process of its own, to be stopped or killed by tests and the demo.

The host is `local/host`, or Microsoft's own where the variable CORE_TOOLS names Azure Functions Core Tools' program: a
path, or a name on PATH.
"""

import asyncio
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp

from local.host import Keys
from local.package import find_files, read_rules
from local.process import Port

_ROOT: Final = Path(__file__).parents[1]
_READY: Final = "Host ready: "
_KEPT: Final = ("PATH", "HOME", "LANG", "PYTHONPATH")
"""What a program needs to run. Everything else that the app needs has to be in its settings."""
_CORE_TOOLS_PATIENCE: Final = timedelta(minutes=3)
"""Core Tools may have to download the extension bundle first."""
_CORE_TOOLS_STOP: Final = 45.0
"""Seconds: the host takes 10 to 42 with functions in progress."""


class HostProcess:
    """`python -m local.host` on a free port, for the app in the directory `app` with the settings `environment`.

        async with HostProcess(app, {"AzureWebJobsStorage": ...}) as host:
            host.url, host.keys.default, host.log

    log: the file that holds everything the host and the app write. output: its text, which stays after the end. The
    process ends with this one, however this one ends.
    """

    def __init__(
        self,
        app: Path,
        environment: Mapping[str, str],
        *,
        options: Sequence[str] = (),
        patience: timedelta = timedelta(minutes=1),
    ) -> None:
        self.url = ""
        self.port = 0
        self._reserved: Port | None = None
        self.keys = Keys.generate()
        self._app = app
        self._options = options
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        self._settings = dict(environment)
        self._environment = {**kept, **environment, "PYTHONUNBUFFERED": "1"}
        self._patience = patience.total_seconds()
        self._output = ""

    async def __aenter__(self) -> Self:
        """Wait until the host is ready. Raises RuntimeError with the output if it ends first, or is never ready."""
        self._folder = tempfile.TemporaryDirectory(prefix="pullkeeper-host-")
        self.log = Path(self._folder.name) / "log"
        try:
            await self._run()
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await (self.stop() if error is None else self.kill())
        self._close()

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else self._output

    @property
    def pid(self) -> int:
        return self._process.pid

    async def stop(self) -> int:
        """Let functions in progress end, within the host's grace period. Returns the exit code."""
        return await self._end(signal.SIGINT)

    async def kill(self) -> None:
        """End it as a crash would."""
        await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        """Stop it, and start it at the same address with the same keys."""
        await self.stop()
        await self._run()

    async def _run(self) -> None:
        """Start it and wait until it is ready."""
        with self.log.open("wb") as output:
            self._process = await self._start(Path(self._folder.name), output.fileno())
        try:
            self.url = await self._wait_until_ready()
        except BaseException:
            await self.kill()
            raise

    async def _start(self, folder: Path, output: int) -> asyncio.subprocess.Process:
        keys = folder / "keys.json"
        self.keys = Keys.at(keys)
        if self._reserved is None:  # or another program may get the port before this one has restarted
            self._reserved = Port()
            self.port = self._reserved.number
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "local.host", "--app", str(self._app), "--port", str(self.port), "--reuse-port"),
            *("--with-stdin", "--keys", str(keys), *self._options),
            cwd=_ROOT,
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def _find_url(self) -> str | None:
        """The address of a host that is ready."""
        lines = (line for line in self.output.splitlines() if line.startswith(_READY))
        return next((line.removeprefix(_READY) for line in lines), None)

    async def _wait_until_ready(self) -> str:
        deadline = time.monotonic() + self._patience
        while time.monotonic() < deadline:
            ended = self._process.returncode is not None  # before the look at the output, which then is complete
            if url := await self._find_url():
                return url
            if ended:
                raise RuntimeError(f"the host ended with exit code {self._process.returncode}:\n{self.output}")
            await asyncio.sleep(0.02)
        raise RuntimeError(f"the host is not ready after {self._patience:.0f} s:\n{self.output}")

    async def _end(self, how: signal.Signals) -> int:
        if self._process.returncode is None:
            self._process.send_signal(how)
        return await self._process.wait()

    def _close(self) -> None:
        self._output = self.output
        self._folder.cleanup()
        if self._reserved is not None:
            self._reserved.release()


class CoreToolsProcess(HostProcess):
    """`func start --port N` in a copy of the app. It asks for no keys, so any key is good."""

    def __init__(self, app: Path, environment: Mapping[str, str], *, program: str) -> None:
        super().__init__(app, environment, patience=_CORE_TOOLS_PATIENCE)
        self._program = program

    async def _start(self, folder: Path, output: int) -> asyncio.subprocess.Process:
        copy = folder / "app"
        for file in find_files(self._app, read_rules(self._app)):
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._app / file, copy / file)
        # Core Tools runs the first Python on PATH.
        path = os.pathsep.join((str(Path(sys.executable).parent), self._environment["PATH"]))
        values = {"FUNCTIONS_WORKER_RUNTIME": "python", **self._settings}
        (copy / "local.settings.json").write_text(json.dumps({"IsEncrypted": False, "Values": values}))
        # Below the ports that the system gives away: another process cannot get it before Core Tools listens.
        self.port = self.port or 20_000 + secrets.randbelow(10_000)
        return await asyncio.create_subprocess_exec(
            *(self._program, "start", "--port", str(self.port)),
            cwd=copy,
            env={**self._environment, "PATH": path},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # the Python worker outlives its host: they are killed as a group
        )

    async def _find_url(self) -> str | None:
        url = f"http://127.0.0.1:{self.port}"
        with suppress(aiohttp.ClientError, ValueError):
            async with aiohttp.ClientSession() as session, session.get(f"{url}/admin/host/status") as answer:
                if answer.ok and (await answer.json())["state"] == "Running":
                    return url
        return None

    async def _end(self, how: signal.Signals) -> int:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CORE_TOOLS_STOP):
                await super()._end(how)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return await self._process.wait()


def host_process(app: Path, environment: Mapping[str, str], *, options: Sequence[str] = ()) -> HostProcess:
    """The app on the host that CORE_TOOLS names, or on `local/host`. options: of `python -m local.host` alone."""
    if program := os.environ.get("CORE_TOOLS"):
        if options:
            raise ValueError(f"Core Tools has no {' '.join(options)}")
        return CoreToolsProcess(app, environment, program=program)
    return HostProcess(app, environment, options=options)
