"""The Azure CLI that `make judges` installs: to check command lines, and to run."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.apiserver import at_hand
from tests.docs.pages import ROOT

SUBSCRIPTION: Final = "00000000-0000-0000-0000-000000000000"
"""Of the documentation's examples."""
JUDGES: Final = Path(__file__).parent / "judges"
BIN: Final = ROOT / ".venv-judges" / "bin"


def program(name: str) -> Path:
    """Return the path of az or another program of `make judges`. Skips or fails the test if it is not installed."""
    if not (BIN.parent / ".ready").exists():
        at_hand.missing(
            "the Azure CLI and other programs that check the documentation are not installed", "make judges"
        )
    return BIN / name


def environment(folder: Path) -> dict[str, str]:
    """Return the environment for az, with its files in the folder. It sends no telemetry, installs nothing, and reaches
    only this machine: all other addresses lead to a proxy that does not exist.
    """
    return {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(folder),
        "AZURE_CONFIG_DIR": str(folder / ".azure"),
        "AZURE_CORE_COLLECT_TELEMETRY": "no",
        "AZURE_EXTENSION_USE_DYNAMIC_INSTALL": "no",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1",
    }


def check(commands: Sequence[Sequence[str]], folder: Path) -> list[str | None]:
    """Return for each command, given as arguments of az, why the CLI refuses it; None if it accepts it."""
    python = program("python")
    _write_profile(folder)
    done = subprocess.run(
        [python, JUDGES / "azure_cli.py"],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=False,
        env=environment(folder),
        cwd=folder,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    faults: list[str | None] = json.loads(done.stdout)
    assert len(faults) == len(commands)
    return faults


def _write_profile(folder: Path) -> None:
    """Sign in on paper: validators need the default subscription."""
    account = {
        "id": SUBSCRIPTION,
        "name": "shop",
        "tenantId": SUBSCRIPTION,
        "state": "Enabled",
        "isDefault": True,
        "environmentName": "AzureCloud",
        "user": {"name": "operator@example.com", "type": "user"},
    }
    configuration = folder / ".azure"
    configuration.mkdir(exist_ok=True)
    (configuration / "azureProfile.json").write_text(json.dumps({"subscriptions": [account]}), encoding="utf-8")
