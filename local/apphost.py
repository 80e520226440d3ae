"""The function app under the local host, as a process of its own, with the cloud's environment and nothing else."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

_ROOT = Path(__file__).parent.parent
_KEPT = ("PATH", "HOME", "LANG", "PYTHONPATH")


class AppHost:
    """`async with` it: ready when entered, ended in order when left. `log` is what it has written."""

    def __init__(self, environment: Mapping[str, str], *arguments: str) -> None:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        self._environment = {**kept, **environment, "PYTHONUNBUFFERED": "1"}
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""
        self.key = ""

    async def __aenter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="pullkeeper-host-")
        keys, log = Path(self._folder.name) / "keys.json", Path(self._folder.name) / "log"
        self.log = log
        with log.open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "default", "-m", "local.host", "--port", "0", "--with-stdin"),
                *("--keys", str(keys), *self._arguments),
                cwd=_ROOT,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
            )
        self.url = await self._ready()
        self.key = json.loads(keys.read_text())["functionKeys"][0]["value"]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        self._folder.cleanup()

    async def stop(self) -> int:
        """Ask it to end, and wait. Its exit code."""
        if self._process is None:
            return 0
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
        return await self._process.wait()

    async def _ready(self) -> str:
        if self._process is None or self._process.stdout is None:
            raise RuntimeError("not started")
        async for line in self._process.stdout:
            if line.startswith(b"Host ready: "):
                return line.decode().removeprefix("Host ready: ").strip()
        raise RuntimeError(f"the host did not start:\n{self.log.read_text()}")
