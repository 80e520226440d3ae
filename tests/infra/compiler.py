"""Microsoft's Bicep compiler, and what it makes of infra/.

`python -m tests.infra.compiler` writes the files that are derived from infra/*.bicep: the compiled template and the
snapshots of the parameter sets. A test fails while they are out of date.
"""

import atexit
import email.parser
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.apiserver import at_hand
from tests.docs.pages import ROOT

INFRA: Final = ROOT / "infra"
TEMPLATE: Final = INFRA / "azuredeploy.json"
PARAMETERS: Final = Path(__file__).parent / "parameters"
SETS: Final = sorted(PARAMETERS.glob("*.bicepparam"))
SUBSCRIPTION: Final = "22222222-2222-2222-2222-222222222222"
IN_GROUP: Final = {
    "subscriptionId": SUBSCRIPTION,
    "resourceGroup": "pullkeeper",
    "location": "westeurope",
    "deploymentName": "pullkeeper",
}
AZD: Final = {
    "AZURE_ENV_NAME": "prod",
    "AZURE_LOCATION": "westeurope",
    "AZURE_RESOURCE_GROUP": "rg-prod",
    "PULLKEEPER_CLUSTER_SCOPES": f'["/subscriptions/{SUBSCRIPTION}/resourceGroups/shop"]',
    # Of a test alone.
    "WRONG_SCOPES": '["/subscriptions/x/resourceGroups/shop/providers/oops"]',
}
"""What azd would have in its environment."""
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


class Compiler:
    """A process of the compiler that answers one request after the other: it takes two seconds to start and warm up."""

    def __init__(self) -> None:
        own = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", tempfile.gettempdir()),
            "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1",  # needs no ICU
            "BICEP_TRACING_ENABLED": "false",
        }
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([program(), "jsonrpc", "--stdio"], stdin=pipe, stdout=pipe, env=own | AZD)

    def request(self, method: str, **parameters: Any) -> Any:
        """Return the result. AssertionError if there is none."""
        assert self._process.stdin
        assert self._process.stdout
        request = json.dumps({"jsonrpc": "2.0", "id": 0, "method": f"bicep/{method}", "params": parameters}).encode()
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(request), request))
        self._process.stdin.flush()
        headers = email.parser.BytesParser().parsebytes(b"".join(iter(self._process.stdout.readline, b"\r\n")))
        response = json.loads(self._process.stdout.read(int(headers["Content-Length"])))
        assert "error" not in response, response["error"]["message"]
        return response["result"]

    def stop(self) -> None:
        self._process.communicate()


@cache
def start() -> Compiler:
    """Start the compiler of this process. It ends with the process."""
    compiler = Compiler()
    atexit.register(compiler.stop)
    return compiler


def build(source: Path) -> tuple[str, list[Any]]:
    """Return the template, and what the compiler and its linter find. AssertionError if that is an error."""
    result = start().request("compile", path=str(source))
    assert result["success"], result["diagnostics"]
    return result["contents"], result["diagnostics"]


def predict(parameters: Path, deployment: Mapping[str, str] = IN_GROUP) -> dict[str, Any]:
    """Return what a deployment with these parameters would create, with loops and modules expanded."""
    snapshot = start().request("getSnapshot", path=str(parameters), metadata=deployment)["snapshot"]
    document: dict[str, Any] = json.loads(snapshot)
    return document


def write_snapshot(parameters: Path) -> None:
    document = predict(parameters)
    # The compiler writes them in another order each time.
    document["outputs"] = dict(sorted(document["outputs"].items()))
    snapshot_of(parameters).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def snapshot_of(parameters: Path) -> Path:
    return parameters.with_suffix(".snapshot.json")


def read_snapshot(parameters: Path) -> dict[str, Any]:
    """Return a snapshot that was written before."""
    document: dict[str, Any] = json.loads(snapshot_of(parameters).read_text(encoding="utf-8"))
    return document


def read_resources(parameters: Path) -> list[Resource]:
    """Return the resources of a snapshot that was written before."""
    resources: list[Resource] = read_snapshot(parameters)["predictedResources"]
    return resources


def main() -> None:
    TEMPLATE.write_text(build(INFRA / "resources.bicep")[0], encoding="utf-8")
    for parameters in SETS:
        write_snapshot(parameters)


if __name__ == "__main__":
    main()
