"""Microsoft's Bicep compiler, and what it makes of infra/.

`python -m tests.infra.compiler` writes the files that are derived from infra/*.bicep: the compiled template and the
snapshots of the parameter sets. A test fails while they are out of date.
"""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.apiserver import at_hand
from tests.docs.pages import ROOT

INFRA: Final = ROOT / "infra"
TEMPLATE: Final = INFRA / "azuredeploy.json"
PARAMETERS: Final = Path(__file__).parent / "parameters"
SETS: Final = sorted(PARAMETERS.glob("*.bicepparam"))
SUBSCRIPTION: Final = "22222222-2222-2222-2222-222222222222"
GROUP: Final = "pullkeeper"
_PLACES: Final = (Path.home() / ".azure" / "bin", ROOT.parent / "shared" / "tools")
"""Beside PATH: where `az bicep install` puts it, and a folder beside the checkout."""

Resource = dict[str, Any]


def program() -> Path:
    """Return the compiler. Skips or fails the test if there is none."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, _PLACES)])
    found = shutil.which("bicep", path=path)
    if found is None:
        at_hand.missing("the Bicep compiler is not installed", "az bicep install", elsewhere=True)
    return Path(found)


def run(*arguments: str | Path, **environment: str) -> str:
    """Run the compiler and return its warnings, "" for none. AssertionError with its errors if it fails."""
    own = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", tempfile.gettempdir()),
        "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1",  # needs no ICU
        "BICEP_TRACING_ENABLED": "false",
    }
    done = subprocess.run(
        [program(), *arguments], capture_output=True, text=True, check=False, timeout=100, env={**own, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


def build(source: Path, target: Path) -> str:
    """Compile a file to a template, and return the warnings."""
    return run("build", source, "--outfile", target)


def predict(parameters: Path) -> list[Resource]:
    """Return every resource that a deployment with these parameters would create, with loops and modules expanded."""
    snapshot(parameters, "overwrite")
    resources: list[Resource] = json.loads(snapshot_of(parameters).read_text(encoding="utf-8"))["predictedResources"]
    return resources


def snapshot(parameters: Path, mode: str) -> str:
    """Write the snapshot (overwrite), or compare it with what is there (validate: AssertionError with the changes)."""
    place = ("--subscription-id", SUBSCRIPTION, "--resource-group", GROUP, "--location", "westeurope")
    return run("snapshot", parameters, "--mode", mode, *place, "--deployment-name", "pullkeeper")


def snapshot_of(parameters: Path) -> Path:
    return parameters.with_suffix(".snapshot.json")


def read_resources(parameters: Path) -> list[Resource]:
    """Return the resources of a snapshot that was written before."""
    resources: list[Resource] = json.loads(snapshot_of(parameters).read_text(encoding="utf-8"))["predictedResources"]
    return resources


def main() -> None:
    print(build(INFRA / "resources.bicep", TEMPLATE), end="")
    for parameters in SETS:
        print(snapshot(parameters, "overwrite"), end="")
        document = json.loads(snapshot_of(parameters).read_text(encoding="utf-8"))
        # The compiler writes them in another order each time.
        document["outputs"] = dict(sorted(document["outputs"].items()))
        snapshot_of(parameters).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
