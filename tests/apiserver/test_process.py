"""Servers that tests start never outlive them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from local.process import Process, ServerDiedError

IN_PROC = pytest.mark.skipif(not Path("/proc").exists(), reason="looks at processes in /proc")

SERVER = """
import http.server, pathlib, sys
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
pathlib.Path(sys.argv[1]).write_text(str(server.server_port))
server.serve_forever()
"""

BUSY = """
import threading
for _ in range(20):
    threading.Thread(target=lambda: [hash(number) for number in iter(int, 1)]).start()
"""

# Starts a server that never gets ready, says where it is, and waits to be killed.
STARTER = """
import asyncio, pathlib, sys
from local.process import Process
process = Process(pathlib.Path(sys.executable))
process.spawn(["-c", "import time; time.sleep(600)"])
print(process._server.pid, process.folder, flush=True)
input()
"""


def alive(pid: int) -> bool:
    """Whether there is such a process; one that is dead and waits to be collected does not count."""
    try:
        return state(Path(f"/proc/{pid}")) != "Z"
    except FileNotFoundError:
        return False


def state(place: Path) -> str:
    """The letter for the state of a process, or of one of its threads, as `man proc_pid_stat` lists them."""
    return (place / "stat").read_text().rpartition(")")[2].split()[0]


def until(true: Callable[[], bool], within: float = 10.0) -> None:
    late = time.monotonic() + within
    while not true():
        assert time.monotonic() < late
        time.sleep(0.02)


@IN_PROC
def test_a_server_and_its_folder_are_removed_when_the_starter_is_killed() -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    with starter:
        assert starter.stdout is not None
        pid, folder = starter.stdout.readline().split()
        assert alive(int(pid))
        assert Path(folder).exists()
        starter.send_signal(signal.SIGKILL)

    until(lambda: not alive(int(pid)))
    until(lambda: not Path(folder).exists())


async def test_a_server_that_ends_at_once_says_why() -> None:
    process = Process(Path(sys.executable))
    with pytest.raises(ServerDiedError, match="no such luck"):
        await process.start(["-c", "raise SystemExit('no such luck')"], "http://127.0.0.1:9/")

    assert not process.folder.exists()


async def test_stop_removes_everything() -> None:
    process = Process(Path(sys.executable))
    process.spawn(["-c", SERVER, str(process.folder / "port")])
    assert process._server is not None
    until((process.folder / "port").exists)
    process.stop()

    assert process._server.returncode == -signal.SIGKILL
    assert not process.folder.exists()


@IN_PROC
def test_a_server_has_stopped_when_its_suspension_begins() -> None:
    """Else it would still answer what a test sends first."""
    process = Process(Path(sys.executable))
    process.spawn(["-c", BUSY])
    try:
        for _ in range(20):
            with process.suspend():
                assert {state(thread) for thread in Path(f"/proc/{process.pid}/task").iterdir()} == {"T"}
    finally:
        process.stop()
