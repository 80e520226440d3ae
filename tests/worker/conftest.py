"""Microsoft's worker library in a process of its own, with an app."""

import asyncio
import json
import os
import re
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.end_to_end.conftest import world  # noqa: F401 - a fixture

FRONT = Path(__file__).with_name("front.py")
SUCCESS, FAILURE = 1, 0


class Worker:
    """`async with Worker(app, environment) as worker`: `indexed` has the functions it found, `invoke` calls one."""

    def __init__(self, app: Path, environment: dict[str, str], log: Path) -> None:
        self._app = app
        # Only PATH of the tests' own environment: the app must find everything else in its settings.
        self._environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **environment}
        self._log = log
        self.indexed: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        with self._log.open("w") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(FRONT), str(self._app)),
                env=self._environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=1024 * 1024,  # a response is one line, and may be a page
            )
        self.indexed = await self._read()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        await self.end()

    async def end(self) -> None:
        """Close its input, which ends it, and wait for that: what it exports in batches is exported then."""
        if self._process.returncode is None:
            await self._process.communicate()

    @property
    def log(self) -> str:
        return self._log.read_text()

    def records(self) -> list[tuple[str, str]]:
        """Logger and message of each record that the host would get."""
        return re.findall(r"^(?:DEBUG|INFO|WARNING|ERROR|CRITICAL):([\w.]+):(.*)$", self.log, re.MULTILINE)

    async def invoke(self, function: str, **trigger: Any) -> dict[str, Any]:
        """The InvocationResponse; `trigger` is `http=`, `timer=` or `queue=` (see front.py)."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"function": function, **trigger}).encode() + b"\n")
        await self._process.stdin.drain()
        return await self._read()

    async def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, f"the worker has ended; its log:\n{self.log}"
        response: dict[str, Any] = json.loads(line)
        return response


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Worker]]]:
    """Start a worker for the app in a directory, or for an app given as code."""
    async with AsyncExitStack() as stack:

        async def start(app: Path | str, environment: dict[str, str] | None = None) -> Worker:
            if isinstance(app, str):
                (tmp_path / "app").mkdir()
                (tmp_path / "app" / "function_app.py").write_text(textwrap.dedent(app))
                app = tmp_path / "app"
            return await stack.enter_async_context(Worker(app, environment or {}, tmp_path / "worker.log"))

        yield start
