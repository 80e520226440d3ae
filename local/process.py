"""Server processes and folders that never outlive this process, and reserved ports."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import aiohttp

READY_WITHIN = timedelta(seconds=60)  # a few seconds on an idle machine

# Its input ends when this process dies, however that happens. Then it kills the server and removes the folder.
WATCHDOG = 'read -r pid; read -r _ || kill -KILL "$pid" 2>/dev/null; rm -rf "$1"'


class ServerDiedError(Exception):
    """A server ended or did not get ready. The message has the last lines of its log."""


class Folder:
    """A temporary folder. It is removed by `remove`, or when this process dies; then its server is killed, too."""

    def __init__(self, name: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"pullkeeper-{name}-"))
        self._pid_sent = False
        reader, self._writer = os.pipe()
        self._watchdog = subprocess.Popen(
            ["sh", "-c", WATCHDOG, "watchdog", self.path],
            stdin=reader,
            start_new_session=True,  # Ctrl-C must not end the watchdog
        )
        os.close(reader)

    def attach(self, pid: int) -> None:
        """Kill this process, too, when our own dies."""
        os.write(self._writer, f"{pid}\n".encode())
        self._pid_sent = True

    def remove(self) -> None:
        if self._watchdog.returncode is None:
            os.write(self._writer, b"done\n" if self._pid_sent else b"\ndone\n")
            os.close(self._writer)
            self._watchdog.wait()


class Process:
    """A server process with a folder of its own. Both are removed by `stop`, or when this process dies."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self._server: subprocess.Popen[bytes] | None = None
        self._folder = Folder(program.name)
        self.folder = self._folder.path

    async def start(self, arguments: Sequence[str], ready: str, through: aiohttp.BaseConnector | None = None) -> None:
        """Start the server and wait until the URL `ready` responds with 200.

        through: the connector, where plain TCP will not do (TLS, a Unix socket). Raises ServerDiedError.
        """
        try:
            self.spawn(arguments)
            async with (
                aiohttp.ClientSession(connector=through) as session,
                asyncio.timeout(READY_WITHIN.total_seconds()),
            ):
                while not await _is_ready(session, ready):
                    self.check_alive()
                    await asyncio.sleep(0.1)
        except BaseException as e:
            tail = self.log_tail()
            self.stop()
            if isinstance(e, TimeoutError):
                raise ServerDiedError(f"{self._program.name} does not get ready:\n{tail}") from e
            raise

    def stop(self) -> None:
        """End the server at once, if it has not ended yet.

        With SIGKILL, because an API server takes more than 20 seconds to stop once its etcd has stopped.
        """
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        self._folder.remove()

    @contextlib.contextmanager
    def suspend(self) -> Iterator[None]:
        """The server does not run meanwhile."""
        if self._server is None:
            raise RuntimeError("start it first")
        self._server.send_signal(signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)  # its threads run on until each has seen the signal
        try:
            yield
        finally:
            self._server.send_signal(signal.SIGCONT)

    def spawn(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start the server and do not wait for it. environment: by default that of this process."""
        with (self.folder / "log").open("wb") as log:
            self._server = subprocess.Popen(
                [self._program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self._folder.attach(self._server.pid)

    @property
    def pid(self) -> int:
        if self._server is None:
            raise ServerDiedError(f"{self._program.name} was not started")
        return self._server.pid

    def check_alive(self) -> None:
        """Raise ServerDiedError if the server has ended."""
        if self._server is not None and self._server.poll() is not None:
            raise ServerDiedError(f"{self._program.name} ended:\n{self.log_tail()}")

    def log_tail(self) -> str:
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-20:])


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    with contextlib.suppress(aiohttp.ClientError):
        async with session.get(url) as response:
            return response.status == HTTPStatus.OK
    return False


class Port:
    """A free port of 127.0.0.1, reserved by a socket that never listens.

    The server that uses the port must bind with SO_REUSEPORT.
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> None:
        self._socket.close()
