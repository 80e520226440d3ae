"""The real Bicep compiler finds nothing, and what is derived from infra/ is up to date."""

import json
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.infra import compiler, rules
from tests.infra.compiler import INFRA, PARAMETERS, SETS, TEMPLATE
from tests.infra.rules import of_type

ENTRY_POINTS = [INFRA / f"{name}.bicep" for name in ("main", "resources", "access", "monitoring/planned-work")]
UP_TO_DATE = "make infra writes it again"


compiled = cache(compiler.build)


@pytest.mark.parametrize("source", ENTRY_POINTS, ids=lambda path: path.name)
def test_compiler_and_linter_find_nothing(source: Path) -> None:
    template, findings = compiled(source)
    assert findings == []
    assert rules.find_secret_outputs(json.loads(template)) == []


def test_the_linter_is_on(tmp_path: Path) -> None:
    """In a module, with the rules of this repository."""
    shutil.copy(INFRA / "bicepconfig.json", tmp_path)
    (tmp_path / "module.bicep").write_text("param unused string\n", encoding="utf-8")
    (tmp_path / "main.bicep").write_text("module it 'module.bicep' = { params: { unused: 'x' } }\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="no-unused-params"):
        compiler.build(tmp_path / "main.bicep")


def test_every_module_is_part_of_an_entry_point() -> None:
    """Otherwise the compiler would not have seen it."""
    seen = {source: set(re.findall(r"'([\w./-]+\.bicep)'", source.read_text(encoding="utf-8"))) for source in sources()}
    used = {(source.parent / name).resolve() for source, names in seen.items() for name in names}
    assert sorted(sources() - used - set(ENTRY_POINTS)) == []


def sources() -> set[Path]:
    return set(INFRA.glob("**/*.bicep"))


def test_the_compiled_template_is_up_to_date() -> None:
    template, _ = compiled(INFRA / "resources.bicep")
    assert comparable(TEMPLATE.read_text(encoding="utf-8")) == comparable(template), UP_TO_DATE


def comparable(template: str) -> Any:
    """Without the order of dependencies, which depends on what the compiler has read before, and without the hash."""

    def sort(node: dict[str, Any]) -> dict[str, Any]:
        return {
            name: sorted(one) if name == "dependsOn" else one for name, one in node.items() if name != "templateHash"
        }

    return json.loads(template, object_hook=sort)


@pytest.mark.parametrize("parameters", SETS, ids=lambda path: path.stem)
def test_a_snapshot_is_up_to_date(parameters: Path) -> None:
    assert compiler.predict(parameters) == compiler.read_snapshot(parameters), UP_TO_DATE


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


def test_azd_deploys_to_its_own_resource_group_alone() -> None:
    """`azd down` deletes every resource group in which its deployment has a resource: none may be that of a cluster."""
    resources = predict_for_azd(INFRA / "main.bicepparam")
    (group,) = of_type(resources, "Microsoft.Resources/resourceGroups")
    assert (group["name"], group["tags"]["azd-env-name"]) == ("rg-prod", "prod"), "azd finds it by its tag"
    others = [one["id"] for one in resources if not one["id"].startswith(f"{group['id']}/") and one is not group]
    assert others == []
    assert rules.settings_of(resources)["ONBOARDING_SCOPES"].endswith("/resourceGroups/shop")


def test_the_hook_of_azd_grants_what_one_deployment_would() -> None:
    resources = predict_for_azd(INFRA / "access.bicepparam")
    granted = rules.grants(resources)
    assert granted
    assert granted < rules.explained()
    # By this name the last hook finds them.
    names = [role["properties"]["roleName"] for role in of_type(resources, rules.ROLE)]
    assert [name for name in names if not name.endswith("(pullkeeper in rg-prod)")] == []


def predict_for_azd(parameters: Path) -> list[compiler.Resource]:
    """Predict a deployment with the parameters that azd reads from its environment."""
    deployment = {"subscriptionId": compiler.SUBSCRIPTION, "location": "westeurope", "deploymentName": "prod"}
    resources: list[compiler.Resource] = compiler.predict(parameters, deployment)["predictedResources"]
    return resources


def test_a_scope_that_is_no_scope_stops_the_deployment(tmp_path: Path) -> None:
    shutil.copytree(INFRA, tmp_path / "infra")
    parameters = tmp_path / "infra" / "access.bicepparam"
    text = parameters.read_text(encoding="utf-8")
    parameters.write_text(text.replace("'PULLKEEPER_CLUSTER_SCOPES'", "'WRONG_SCOPES'"), encoding="utf-8")
    with pytest.raises(AssertionError, match="neither a subscription nor a resource group nor a cluster"):
        predict_for_azd(parameters)


def test_every_set_of_parameters_is_tested() -> None:
    assert {path.stem for path in SETS} == {"minimal", "private-network", "easy-auth", "many-clusters"}
    assert {path.name for path in PARAMETERS.glob("*.json")} == {f"{path.stem}.snapshot.json" for path in SETS}
