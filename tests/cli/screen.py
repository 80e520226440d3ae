"""A program in a terminal, as a person sees it: a pseudo-terminal of some size, and the screen that it fills."""

import asyncio
import fcntl
import os
import pty
import re
import signal
import struct
import termios
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import pyte

_PATIENCE: Final = 30
_READ: Final = 65536


def _take_terminal() -> None:
    """So that Ctrl-C reaches the program, also where the tests run in the background, which ignores it."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Screen:
    """output: everything that the program wrote, with its control sequences."""

    def __init__(self, columns: int, rows: int) -> None:
        self.output = b""
        self._screen = pyte.HistoryScreen(columns, rows, history=10_000)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = pty.openpty()
        self._slave: int | None = slave
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process: asyncio.subprocess.Process

    async def start(self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        slave = self._slave
        self.process = await asyncio.create_subprocess_exec(
            *arguments,
            env=environment,
            cwd=folder,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        if slave is not None:
            os.close(slave)
        self._slave = None
        asyncio.get_running_loop().add_reader(self._master, self._read)

    def _read(self) -> None:
        try:
            new = os.read(self._master, _READ)
        except OSError:  # the program has ended
            new = b""
        if not new:
            asyncio.get_running_loop().remove_reader(self._master)
        self.output += new
        self._stream.feed(new)

    @property
    def lines(self) -> list[str]:
        """What is on the screen and above it, without empty lines."""
        columns = range(self._screen.columns)
        above = ["".join(line[n].data for n in columns) for line in self._screen.history.top]
        return [line.rstrip() for line in (*above, *self._screen.display) if line.strip()]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    async def until(self, pattern: str) -> None:
        """Wait until the screen has a text that matches."""
        deadline = time.monotonic() + _PATIENCE
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, f"there is no {pattern} in\n{self.text}"
            assert self.process.returncode is None, f"it ended without {pattern}:\n{self.text}"
            await asyncio.sleep(0.05)

    async def end(self) -> int:
        """Wait for the end of the program. Returns its exit code."""
        code = await asyncio.wait_for(self.process.wait(), _PATIENCE)
        await asyncio.sleep(0.1)  # for the last bytes
        return code

    async def close(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        asyncio.get_running_loop().remove_reader(self._master)
        with suppress(OSError):
            os.close(self._master)


@asynccontextmanager
async def open_screen(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, *, columns: int = 110, rows: int = 40
) -> AsyncIterator[Screen]:
    screen = Screen(columns, rows)
    await screen.start(arguments, environment, folder)
    try:
        yield screen
    finally:
        await screen.close()
