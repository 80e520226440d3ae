"""The real Bicep compiler finds nothing, and what is derived from infra/ is up to date."""

import json
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.infra import compiler, rules
from tests.infra.compiler import INFRA, PARAMETERS, SETS, TEMPLATE
from tests.infra.rules import of_type

ENTRY_POINTS = [INFRA / f"{name}.bicep" for name in ("main", "resources", "access", "monitoring/planned-work")]
UP_TO_DATE = "make infra writes it again"


@cache
def compiled(source: Path) -> tuple[str, str]:
    """Return the template, and the compiler's warnings."""
    with tempfile.TemporaryDirectory() as folder:
        warnings = compiler.build(source, target := Path(folder) / "template.json")
        return target.read_text(encoding="utf-8"), warnings


@pytest.mark.parametrize("source", ENTRY_POINTS, ids=lambda path: path.name)
def test_the_compiler_finds_nothing(source: Path) -> None:
    template, warnings = compiled(source)
    assert warnings == ""
    assert rules.find_secret_outputs(json.loads(template)) == []


def test_the_linter_finds_nothing() -> None:
    assert compiler.run("lint", "--pattern", f"{INFRA}/**/*.bicep") == ""


def test_every_module_is_part_of_an_entry_point() -> None:
    """Otherwise the compiler would not have seen it."""
    seen = {source: set(re.findall(r"'([\w./-]+\.bicep)'", source.read_text(encoding="utf-8"))) for source in sources()}
    used = {(source.parent / name).resolve() for source, names in seen.items() for name in names}
    assert sorted(sources() - used - set(ENTRY_POINTS)) == []


def sources() -> set[Path]:
    return set(INFRA.glob("**/*.bicep"))


def test_the_compiled_template_is_up_to_date() -> None:
    template, _ = compiled(INFRA / "resources.bicep")
    assert TEMPLATE.read_text(encoding="utf-8") == template, UP_TO_DATE


@pytest.mark.parametrize("parameters", SETS, ids=lambda path: path.stem)
def test_a_snapshot_is_up_to_date(parameters: Path) -> None:
    compiler.snapshot(parameters, "validate")


def test_every_parameter_says_what_it_is_and_has_a_default() -> None:
    template = json.loads(TEMPLATE.read_text(encoding="utf-8"))
    parameters = template["parameters"]
    assert [name for name, one in parameters.items() if not described(one, template)] == []
    assert [name for name, one in parameters.items() if "defaultValue" not in one and not one.get("nullable")] == []


def described(parameter: dict[str, Any], template: dict[str, Any]) -> bool:
    """Itself, or all properties of its type."""
    if "description" in parameter.get("metadata", {}):
        return True
    definition = template["definitions"][parameter["$ref"].rpartition("/")[2]]
    return all("description" in one.get("metadata", {}) for one in definition["properties"].values())


def test_both_entry_points_have_the_same_parameters() -> None:
    """main.bicep only adds where to deploy to, and leaves the package to azd."""
    main = json.loads(compiled(INFRA / "main.bicep")[0])["parameters"]
    group = json.loads(TEMPLATE.read_text(encoding="utf-8"))["parameters"]
    assert main.keys() - group.keys() == {"environmentName", "resourceGroupName"}
    assert group.keys() - main.keys() == {"packageUri"}
    shared = main.keys() & group.keys() - {"location"}
    assert [name for name in shared if main[name] != group[name]] == []


AZD = {
    "AZURE_ENV_NAME": "prod",
    "AZURE_LOCATION": "westeurope",
    "AZURE_RESOURCE_GROUP": "rg-prod",
    "PULLKEEPER_CLUSTER_SCOPES": f'["/subscriptions/{compiler.SUBSCRIPTION}/resourceGroups/shop"]',
}


def test_azd_deploys_to_its_own_resource_group_alone(tmp_path: Path) -> None:
    """`azd down` deletes every resource group in which its deployment has a resource: none may be that of a cluster."""
    resources = predict_for_azd("main", tmp_path)
    (group,) = of_type(resources, "Microsoft.Resources/resourceGroups")
    assert group["name"] == "rg-prod"
    others = [one["id"] for one in resources if not one["id"].startswith(f"{group['id']}/") and one is not group]
    assert others == []
    assert rules.settings_of(resources)["ONBOARDING_SCOPES"].endswith("/resourceGroups/shop")


def test_the_hook_of_azd_grants_what_one_deployment_would(tmp_path: Path) -> None:
    resources = predict_for_azd("access", tmp_path)
    granted = rules.grants(resources)
    assert granted
    assert granted < rules.explained()
    # By this name the last hook finds them.
    names = [role["properties"]["roleName"] for role in of_type(resources, rules.ROLE)]
    assert [name for name in names if not name.endswith("(pullkeeper in rg-prod)")] == []


def predict_for_azd(name: str, folder: Path, **environment: str) -> list[compiler.Resource]:
    """Predict a deployment with the parameters that azd reads from its environment."""
    for part in (INFRA, INFRA.parent / "pullkeeper"):
        shutil.copytree(part, folder / part.name)
    parameters = folder / "infra" / f"{name}.bicepparam"
    where = ("--subscription-id", compiler.SUBSCRIPTION, "--location", "westeurope", "--deployment-name", "prod")
    compiler.run("snapshot", parameters, "--mode", "overwrite", *where, **AZD | environment)
    return compiler.read_resources(parameters)


def test_a_scope_that_is_no_scope_stops_the_deployment(tmp_path: Path) -> None:
    wrong = '["/subscriptions/x/resourceGroups/shop/providers/oops"]'
    with pytest.raises(AssertionError, match="neither a subscription nor a resource group nor a cluster"):
        predict_for_azd("access", tmp_path, PULLKEEPER_CLUSTER_SCOPES=wrong)


def test_every_set_of_parameters_is_tested() -> None:
    assert {path.stem for path in SETS} == {"minimal", "private-network", "easy-auth", "many-clusters"}
    assert {path.name for path in PARAMETERS.glob("*.json")} == {f"{path.stem}.snapshot.json" for path in SETS}
