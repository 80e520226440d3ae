"""The command line as it is installed, run as a pipeline runs it or in a terminal, and the hosted app with a fleet."""

import asyncio
import os
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import pytest_asyncio

from local.azurite import Azurite
from local.serving import Authority
from pullkeeper.cli.main import run
from pullkeeper.cli.terminal import Terminal
from tests.cli.screen import Screen, open_screen
from tests.docs.pages import ROOT
from tests.docs.pipelines import Run, run_program
from tests.http.conftest import App, host_app

SUCCEEDED, FAILED, WRONG_USAGE, AWAITS_PUBLISHER, NO_RESULT, INTERRUPTED = 0, 1, 2, 3, 4, 130


@dataclass(frozen=True, slots=True)
class Cli:
    """The command line with its environment: nothing but what a test gives it."""

    folder: Path
    url: str = ""
    key: str = "key"
    more: dict[str, str] = field(default_factory=dict)

    def environment(self, **more: str) -> dict[str, str]:
        given = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "NO_PROXY": "127.0.0.1",
            "PULLKEEPER_URL": self.url,
            "PULLKEEPER_KEY": self.key,
            **self.more,
            **more,
        }
        return {name: value for name, value in given.items() if value}

    async def run(self, *arguments: str, **more: str) -> Run:
        """Run it as a pipeline does. more: variables; an empty one is not set."""
        return await run_program(_program(arguments), self.environment(**more), self.folder)

    async def call(self, *arguments: str, **more: str) -> Run:
        """Do the same in a thread of this process: a tenth of the time."""
        out, err = (TextIOWrapper(BytesIO(), encoding="utf-8") for _ in range(2))
        with (
            mock.patch.dict(os.environ, {**self.environment(**more), "PYTHONUTF8": "1"}),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = await asyncio.to_thread(run, Terminal.open(os.environ, out, err), arguments)
        return Run(code, *(_read(stream) for stream in (out, err)))

    def open(
        self, *arguments: str, columns: int = 110, rows: int = 40, into: str = "", **more: str
    ) -> AbstractAsyncContextManager[Screen]:
        """Run it in a terminal. into: a program that gets its output."""
        program = _program(arguments)
        if into:
            program = ["bash", "-c", f"{shlex.join(program)} | {into}"]
        return open_screen(program, self.environment(**more), self.folder, columns=columns, rows=rows)

    async def show(self, *arguments: str, **more: Any) -> tuple[int, Screen]:
        """Run it in a terminal to its end."""
        async with self.open(*arguments, **more) as screen:
            return await screen.end(), screen


def _read(stream: TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def _program(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "pullkeeper.cli", *arguments]


@pytest.fixture
def lonely(tmp_path: Path) -> Cli:
    """The command line without an app."""
    return Cli(tmp_path)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(request: pytest.FixtureRequest, azurite: Azurite, authority: Authority) -> AsyncIterator[App]:
    async with host_app(request.node.nodeid, azurite, authority) as app:
        yield app


@pytest.fixture
def cli(app: App, tmp_path: Path) -> Cli:
    return Cli(tmp_path, app.host.url, app.host.keys.default)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(app: App) -> App:
    """Three clusters: two are fresh, and the API server of the third has stopped since."""
    clusters = [await app.add_cluster(name) for name in ("shop-west", "shop-east", "bank-edge")]
    await asyncio.gather(*(app.onboard(cluster) for cluster in clusters))
    await clusters[2].server.stop()
    return app
