"""The Deploy to Azure button: its address, its form, and the app roles of an app registration."""

import json
import re
from typing import Any, Final
from urllib.parse import quote

import jsonschema_rs
import pytest

from functions.route import ONBOARD, READ
from pullkeeper.version import REPOSITORY, VERSION
from tests.docs.pages import ROOT, read
from tests.infra.compiler import INFRA, TEMPLATE
from tests.infra.test_azd import load_schema

FORM: Final = json.loads(read(INFRA / "createUiDefinition.json"))
_KINDS: Final = ("MultiVm", "CommonControl", "ProviderControl")
_REFERENCE: Final = re.compile(r"(basics|steps)\('(\w+)'\)(?:\.(\w+))?")


def elements() -> dict[tuple[str, ...], Any]:
    """Return the controls by what an output calls them: basics('name'), steps('step').name."""
    parameters = FORM["parameters"]
    found: dict[tuple[str, ...], Any] = {("basics", one["name"], ""): one for one in parameters["basics"]}
    for step in parameters["steps"]:
        found |= {("steps", step["name"], one["name"]): one for one in step["elements"]}
    return found


def test_the_button_leads_to_the_template_and_the_form_of_this_project() -> None:
    raw = REPOSITORY.replace("https://github.com/", "https://raw.githubusercontent.com/") + "/main/infra/"
    template, form = (quote(f"{raw}{name}", safe="") for name in ("azuredeploy.json", "createUiDefinition.json"))
    button = f"https://portal.azure.com/#create/Microsoft.Template/uri/{template}/createUIDefinitionUri/{form}"
    found = re.findall(r"https://portal\.azure\.com/#create/[^)\s]+", read(ROOT / "README.md"))
    assert found == [button]


def test_the_form_is_valid() -> None:
    schemas = {kind: load_schema(f"CreateUIDefinition.{kind}.json") for kind in _KINDS}
    resources = [(schema["id"].rstrip("#"), schema) for schema in schemas.values()]
    registry = jsonschema_rs.Registry(resources, draft=jsonschema_rs.Draft4)
    validator = jsonschema_rs.Draft4Validator(schemas["MultiVm"], registry=registry)
    assert [error.message for error in validator.iter_errors(FORM)] == []
    wrong = json.loads(json.dumps(FORM).replace("Microsoft.Common.CheckBox", "Microsoft.Common.Chequebox"))
    assert not validator.is_valid(wrong)


def test_the_form_fills_in_parameters_of_the_template() -> None:
    parameters = json.loads(read(TEMPLATE))["parameters"]
    outputs = FORM["parameters"]["outputs"]
    assert outputs.keys() - parameters.keys() == set()
    used = {reference for output in outputs.values() for reference in _REFERENCE.findall(output)}
    assert used == set(elements())


def test_the_form_allows_what_is_ticked_and_no_more() -> None:
    """Rights above all."""
    condition = re.compile(r""""(\w+)":', if\(steps\('\w+'\)\.(\w+), '(\w+)', '(\w+)'\)""")
    found = [one for output in FORM["parameters"]["outputs"].values() for one in condition.findall(output)]
    names = ["clusterAdministrator", "enableWorkloadIdentity", "natGateway"]
    assert found == [(name, name, "true", "false") for name in names]


def test_the_form_offers_what_the_types_allow() -> None:
    definitions = json.loads(read(TEMPLATE))["definitions"]
    properties = {name: one for type_ in definitions.values() for name, one in type_.get("properties", {}).items()}
    values = {
        name: [one["value"] for one in elements()["steps", "app", name]["constraints"]["allowedValues"]]
        for name in ("memory", "network")
    }
    assert {int(value) for value in values["memory"]} == set(properties["instanceMemoryMB"]["allowedValues"])
    assert set(values["network"]) <= set(properties["mode"]["allowedValues"])
    built = re.findall(r'"(\w+)\\?":', " ".join(FORM["parameters"]["outputs"].values()))
    assert set(built) <= properties.keys()


def test_the_form_deploys_the_package_of_this_version() -> None:
    package = elements()["steps", "app", "packageUri"]["defaultValue"]
    assert package == f"{REPOSITORY}/releases/download/v{VERSION}/pullkeeper-{VERSION}.zip"


GROUP: Final = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/shop"
CLUSTER: Final = f"{GROUP}/providers/Microsoft.ContainerService/managedClusters/shop-west"


@pytest.mark.parametrize(
    ("control", "good", "bad"),
    [
        (("basics", "name", ""), ["pullkeeper", "pk1"], ["Pullkeeper", "p", "a" * 21, "ends-"]),
        (
            ("steps", "clusters", "scopes"),
            ["", GROUP, CLUSTER, f"{GROUP},{CLUSTER}", GROUP.partition("/resourceGroups")[0]],
            ["shop", f"{GROUP}, {CLUSTER}", f"{CLUSTER}/x", f"{GROUP}/providers/Microsoft.Web/sites/x"],
        ),
        (("steps", "app", "packageUri"), ["", "https://a.example/b.zip"], ["http://a.example/b.zip", "b.zip"]),
    ],
)
def test_the_form_accepts_what_the_template_takes(control: tuple[str, ...], good: list[str], bad: list[str]) -> None:
    pattern = elements()[control]["constraints"]["regex"]
    assert [text for text in good if not re.search(pattern, text)] == []
    assert [text for text in bad if re.search(pattern, text)] == []


def test_the_app_registration_gets_the_roles_that_the_routes_need() -> None:
    roles = json.loads(read(INFRA / "app-roles.json"))
    assert {role["value"] for role in roles} == {READ, ONBOARD}
    assert all(role["isEnabled"] for role in roles)
    assert [role["allowedMemberTypes"] for role in roles] == [["User", "Application"]] * 2, "pipelines are applications"
