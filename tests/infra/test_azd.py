"""azure.yaml, and that azd, the pipelines and the script set the same variables."""

import json
import os
import re
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import pytest
import yaml

from tests.apiserver import at_hand
from tests.docs.pages import ROOT, read
from tests.infra.compiler import INFRA

SCHEMAS: Final = ROOT.parent / "shared" / "schemas"
"""Microsoft's, beside the checkout. They are published with azd and with the Azure Portal."""
GITHUB: Final = ROOT / ".github" / "workflows" / "azure-dev.yml"
AZURE: Final = ROOT / ".azdo" / "pipelines" / "azure-dev.yml"


def load_schema(name: str) -> Any:
    if not (SCHEMAS / name).exists():
        at_hand.missing(
            f"there is no {name}", f"put Microsoft's schema into {SCHEMAS.relative_to(ROOT.parent)}", elsewhere=True
        )
    return json.loads(read(SCHEMAS / name))


@pytest.fixture(scope="module")
def project() -> Any:
    return yaml.safe_load(read(ROOT / "azure.yaml"))


def test_azure_yaml_is_valid(project: Any) -> None:
    # The schemas of extensions are for other hosts, and elsewhere.
    validator = jsonschema_rs.validator_for(load_schema("azure.yaml.json"), retriever=lambda _: {})
    assert [error.message for error in validator.iter_errors(project)] == []
    wrong = project | {"hooks": {"postdeploi": project["hooks"]["postdeploy"]}}
    assert not validator.is_valid(wrong)


def test_hooks_are_programs(project: Any) -> None:
    scripts = {hook["run"] for hook in project["hooks"].values()}
    assert scripts == {str(path.relative_to(ROOT)) for path in INFRA.glob("hooks/*")}
    assert [script for script in scripts if not os.access(ROOT / script, os.X_OK)] == []


def variables_of(parameters: Path) -> set[str]:
    return set(re.findall(r"readEnvironmentVariable\('(\w+)'", read(parameters)))


def test_pipelines_pass_on_every_variable(project: Any) -> None:
    """What azd knows, and the subscription."""
    of_azd = {"AZURE_ENV_NAME", "AZURE_LOCATION"}
    variables = variables_of(INFRA / "main.bicepparam")
    assert variables == {*project["pipeline"]["variables"], *of_azd}
    wanted = {*variables, "AZURE_SUBSCRIPTION_ID"}
    github = yaml.safe_load(read(GITHUB))["jobs"]["deploy"]["env"]
    assert github == {name: f"${{{{ vars.{name} }}}}" for name in wanted}
    (task,) = re.findall(r"\n +env:\n((?: +\w+: \S+\n)+)", read(AZURE))
    assert yaml.safe_load(task) == {name: f"$({name})" for name in wanted}
    assert variables_of(INFRA / "access.bicepparam") <= {*variables, "AZURE_RESOURCE_GROUP"}
