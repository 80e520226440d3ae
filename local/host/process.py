"""The host as a process of its own, with an environment of its own, to be drained or killed by tests and the demo."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from local.host.web import Keys

_ROOT = Path(__file__).parents[2]


class HostProcess:
    """`python -m local.host` on a free port, for the app in the directory `app`.

        async with HostProcess(app, {"AzureWebJobsStorage": ...}) as host:
            host.url, host.keys.default

    `environment` is added to ours. `log` is all that it and the app have said so far, line by line. It ends with this
    process, however that ends.
    """

    def __init__(
        self,
        app: Path,
        environment: Mapping[str, str],
        *,
        options: Sequence[str] = (),
        patience: timedelta = timedelta(minutes=1),
    ) -> None:
        self.log: list[str] = []
        self.url = ""
        self.keys = Keys(master="", default="")
        self._command = [sys.executable, "-m", "local.host", "--app", str(app), "--port", "0", "--with-stdin", *options]
        self._environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self._patience = patience.total_seconds()

    async def start(self) -> None:
        """Return when it is ready; raises RuntimeError with its log when it ends before that, or never is."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            cwd=_ROOT,
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=2**20,
        )
        self._ready = asyncio.Event()
        self._reading = asyncio.create_task(self._read())
        waiting = asyncio.create_task(self._ready.wait())
        await asyncio.wait({waiting, self._reading}, timeout=self._patience, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not self.url:
            await self.kill()
            raise RuntimeError("the host did not get ready:\n" + "\n".join(self.log))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await (self.stop() if error is None else self.kill())

    async def stop(self) -> int:
        """Let it finish what it has begun, and return its exit code."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End it as a crash would."""
        await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> int:
        if self._process.returncode is None:
            self._process.send_signal(how)
        await self._reading
        return await self._process.wait()

    async def _read(self) -> None:
        if self._process.stdout is None:
            return
        async for raw in self._process.stdout:
            line = raw.decode(errors="replace").rstrip("\n")
            self.log.append(line)
            name, _, value = line.partition(": ")
            match name:
                case "Function key":
                    self.keys = Keys(master=self.keys.master, default=value)
                case "Master key":
                    self.keys = Keys(master=value, default=self.keys.default)
                case "Host ready":
                    self.url = value
                    self._ready.set()
