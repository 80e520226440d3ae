"""The Azure CLI that `make judges` installs: as a judge of command lines, and run for real."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.apiserver import at_hand
from tests.docs.pages import ROOT

SUBSCRIPTION: Final = "00000000-0000-0000-0000-000000000000"
"""As the documentation has it."""
JUDGES: Final = Path(__file__).parent / "judges"
BIN: Final = ROOT / ".venv-judges" / "bin"


def program(name: str) -> Path:
    """az, or another judge. Where it is not at hand the test is left out or fails."""
    if not (BIN.parent / ".ready").exists():
        at_hand.missing("the Azure CLI and other judges of the documentation are not at hand", "make judges")
    return BIN / name


def environment(folder: Path) -> dict[str, str]:
    """For az, with its files in the folder. It tells Microsoft nothing, installs nothing, and reaches this machine
    alone: what is not on loopback goes to a proxy that is not there.
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


def complaints(commands: Sequence[Sequence[str]], folder: Path) -> list[str | None]:
    """What the CLI has against each, given as arguments of az; None for nothing."""
    python = program("python")
    _log_in_on_paper(folder)
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
    told: list[str | None] = json.loads(done.stdout)
    assert len(told) == len(commands)
    return told


def _log_in_on_paper(folder: Path) -> None:
    """Validators complete what is typed with the subscription that one is logged in to."""
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
