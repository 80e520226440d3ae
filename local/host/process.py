"""The host as a process of its own, with an environment of its own, to be drained or killed by tests and the demo."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from local.host.keys import Keys

_ROOT = Path(__file__).parents[2]
_READY = "Host ready: "
# What a program needs to find its way about. All else that the app is to know has to be in its settings.
_KEPT = ("PATH", "HOME", "LANG", "PYTHONPATH")


class HostProcess:
    """`python -m local.host` on a free port, for the app in the directory `app` and its settings, `environment`.

        async with HostProcess(app, {"AzureWebJobsStorage": ...}) as host:
            host.url, host.keys.default, host.log

    `log` is the file with all that it and the app say, `said` the same as text, to be read after the end too. It ends
    with this process, however that ends.
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
        self.keys = Keys(master="", default="")
        self._app = app
        self._options = options
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        self._environment = {**kept, **environment, "PYTHONUNBUFFERED": "1"}
        self._patience = patience.total_seconds()
        self._said = ""

    async def __aenter__(self) -> Self:
        """Ready; raises RuntimeError with all it said when it ends before that, or never is."""
        self._folder = tempfile.TemporaryDirectory(prefix="pullkeeper-host-")
        self.log, keys = Path(self._folder.name) / "log", Path(self._folder.name) / "keys.json"
        with self.log.open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "local.host", "--app", str(self._app), "--port", "0", "--with-stdin"),
                *("--keys", str(keys), *self._options),
                cwd=_ROOT,
                env=self._environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
            )
        try:
            self.url = await self._ready()
        except BaseException:
            await self.kill()
            self._leave()
            raise
        self.keys = Keys.at(keys)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await (self.stop() if error is None else self.kill())
        self._leave()

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else self._said

    async def stop(self) -> int:
        """Let it finish what it has begun, and return its exit code."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End it as a crash would."""
        await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> int:
        if self._process.returncode is None:
            self._process.send_signal(how)
        return await self._process.wait()

    async def _ready(self) -> str:
        deadline = time.monotonic() + self._patience
        while time.monotonic() < deadline:
            ended = self._process.returncode is not None  # before reading: what it said last is read then too
            for line in self.said.splitlines():
                if line.startswith(_READY):
                    return line.removeprefix(_READY)
            if ended:
                raise RuntimeError(f"the host ended with exit code {self._process.returncode}:\n{self.said}")
            await asyncio.sleep(0.02)
        raise RuntimeError(f"the host is not ready after {self._patience:.0f} s:\n{self.said}")

    def _leave(self) -> None:
        self._said = self.said
        self._folder.cleanup()
