"""Azurite as the tests and the demo use it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local.azurite import Azurite, AzuriteError

pytestmark = pytest.mark.servers
ROOT = Path(__file__).parents[2]
_STARTER = """
import time
from local.azurite import Azurite
from local.serving import Authority
with Azurite(authority=Authority()) as azurite:
    print(azurite.endpoints("any")["Queue"], flush=True)
    time.sleep(600)
"""


def is_open(endpoint: str) -> bool:
    port = urlsplit(endpoint).port
    assert port is not None
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_files_when_its_parent_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", _STARTER]
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        endpoint = parent.stdout.readline().strip()
        assert is_open(endpoint)
        parent.send_signal(number)
    deadline = time.monotonic() + 10
    while is_open(endpoint) or list(tmp_path.iterdir()):
        assert time.monotonic() < deadline, "Azurite or its folder is still there after ten seconds"
        time.sleep(0.05)


def test_without_node_or_its_modules_it_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(AzuriteError, match="not installed; run `make setup`"), Azurite(home=tmp_path):
        pass
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AzuriteError, match=r"Node\.js.*make setup"), Azurite():
        pass


def test_the_lock_pins_one_version_and_names_no_registry() -> None:
    """With a host in the lock file, `npm ci` would ignore the mirror that a machine is configured for."""
    package = json.loads((ROOT / "local/azurite/package.json").read_text())
    lock = json.loads((ROOT / "local/azurite/package-lock.json").read_text())["packages"]
    assert lock["node_modules/azurite"]["version"] == package["dependencies"]["azurite"]
    modules = {path: entry for path, entry in lock.items() if path}
    assert [path for path, entry in modules.items() if "resolved" in entry] == []
    assert [path for path, entry in modules.items() if "integrity" not in entry] == []
