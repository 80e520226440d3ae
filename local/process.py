"""Server processes that never outlive us, and ports that nobody else is given."""

import asyncio
import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import aiohttp

READY_WITHIN = timedelta(seconds=60)  # a few seconds on an idle machine

# Outlives us in any case: its input ends when we die, and then it ends the server and clears up after it.
WATCHDOG = 'read -r pid; read -r _ || kill -KILL "$pid" 2>/dev/null; rm -rf "$1"'


class ServerDiedError(Exception):
    """A server ended or did not get ready. The message carries the last lines of its log."""


class Process:
    """One server process and a folder of its own. Both are gone after `stop`, or when this process dies."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self._server: subprocess.Popen[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix=f"pullkeeper-{program.name}-"))
        watched, self._lifeline = os.pipe()
        self._watchdog = subprocess.Popen(
            ["sh", "-c", WATCHDOG, "watchdog", self.folder],
            stdin=watched,
            start_new_session=True,  # Ctrl-C is meant for us; the watchdog still has its work to do then
        )
        os.close(watched)

    async def start(self, arguments: Sequence[str], ready: str, through: aiohttp.BaseConnector | None = None) -> None:
        """Start the server and wait until the address `ready` answers 200.

        through: how to reach it if plain TCP will not do (TLS, a socket in the file system).
        Raise ServerDiedError.
        """
        try:
            self._spawn(arguments)
            async with (
                aiohttp.ClientSession(connector=through) as session,
                asyncio.timeout(READY_WITHIN.total_seconds()),
            ):
                while not await _answers(session, ready):
                    self._check_alive()
                    await asyncio.sleep(0.1)
        except BaseException as e:
            tail = self._log_tail()
            self.stop()
            if isinstance(e, TimeoutError):
                raise ServerDiedError(f"{self._program.name} does not get ready:\n{tail}") from e
            raise

    def stop(self) -> None:
        """End the server at once, if it has not ended yet.

        SIGKILL, because an API server takes more than 20 seconds to stop politely once its etcd has gone.
        """
        if self._watchdog.returncode is not None:
            return
        pid_if_unknown = b"\n" if self._server is None else b""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        os.write(self._lifeline, pid_if_unknown + b"done\n")
        os.close(self._lifeline)
        self._watchdog.wait()

    def _spawn(self, arguments: Sequence[str]) -> None:
        with (self.folder / "log").open("wb") as log:
            self._server = subprocess.Popen(
                [self._program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        os.write(self._lifeline, f"{self._server.pid}\n".encode())

    def _check_alive(self) -> None:
        if self._server is not None and self._server.poll() is not None:
            raise ServerDiedError(f"{self._program.name} ended:\n{self._log_tail()}")

    def _log_tail(self) -> str:
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-20:])


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    with contextlib.suppress(aiohttp.ClientError):
        async with session.get(url) as response:
            return response.status == HTTPStatus.OK
    return False


class Port:
    """A free port of 127.0.0.1, held by a socket that never listens, so that nobody else is given it meanwhile.

    The server that is to have it must bind with SO_REUSEPORT too.
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> None:
        self._socket.close()
