"""What the module deploys: compiled without a finding, of the form that Azure and Grafana expect, and documented."""

import json
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import pytest

from tests.apiserver import at_hand
from tests.docs.pages import ROOT, anchors, rows
from tests.infra import compiler
from tests.infra.compiler import Resource
from tests.monitoring import deployed
from tests.monitoring.deployed import PARAMETERS, RULE, find

_SCHEMA: Final = ROOT.parent / "shared" / "schemas" / "workbook.json"
_DOCUMENTATION: Final = "https://github.com/pullkeeper/pullkeeper/blob/main/"
_RUNBOOK: Final = f"{_DOCUMENTATION}docs/runbook/"
_CATEGORY: Final = "${data.alertContext.condition.allOf[0].dimensions[0].value}"
_RULES: Final = find(RULE)

each_rule = pytest.mark.parametrize("rule", _RULES, ids=lambda rule: rule["name"])


@pytest.mark.parametrize("parameters", PARAMETERS, ids=lambda path: path.stem)
def test_a_snapshot_is_up_to_date(parameters: Path) -> None:
    """`make infra` writes it again."""
    assert compiler.predict(parameters) == compiler.read_snapshot(parameters)


def test_the_workbook_is_valid() -> None:
    """By Microsoft's schema, which lies beside the checkout."""
    if not _SCHEMA.is_file():
        at_hand.missing(
            f"no {_SCHEMA.name} beside the checkout",
            "see microsoft/Application-Insights-Workbooks/schema",
            elsewhere=True,
        )
    schema = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    assert [str(error) for error in jsonschema_rs.validator_for(schema).iter_errors(deployed.workbook())] == []


def test_every_chart_has_the_time_range_of_the_workbook() -> None:
    [parameters] = [item["content"]["parameters"] for item in deployed.workbook()["items"] if item["type"] == 9]
    [parameter] = parameters
    assert {chart["timeContextFromParameter"] for chart in deployed.charts()} == {parameter["name"]}


def test_the_dashboard_shows_the_charts_of_the_workbook() -> None:
    kinds = {"timeseries": "timechart", "table": "table"}
    shown = [(panel["title"], kinds[panel["type"]], target["query"]) for panel, target in deployed.panels()]
    assert shown == [(chart["title"], chart["visualization"], chart["query"]) for chart in deployed.charts()]


def test_no_two_panels_overlap_and_each_has_its_source() -> None:
    dashboard = deployed.grafana()
    places = [(place["x"], place["y"]) for place in (panel["gridPos"] for panel in dashboard["panels"])]
    assert places == [(12 * (index % 2), 9 * (index // 2)) for index in range(len(places))]
    [variable] = dashboard["templating"]["list"]
    sources = [part["datasource"] for panel, _ in deployed.panels() for part in (panel, panel["targets"][0])]
    assert all(source == {"type": variable["query"], "uid": f"${{{variable['name']}}}"} for source in sources)
    formats = {(panel["type"], target["resultFormat"]) for panel, target in deployed.panels()}
    assert formats == {("timeseries", "time_series"), ("table", "table")}


def test_everything_reads_the_workspace() -> None:
    [resource] = find("Microsoft.Insights/workbooks")
    workspace = resource["properties"]["sourceId"]
    read = [
        *(rule["properties"]["scopes"] for rule in _RULES),
        *(chart["crossComponentResources"] for chart in deployed.charts()),
        *(target["resources"] for _, target in deployed.panels()),
    ]
    assert all(resources == [workspace] for resources in read)


@each_rule
def test_an_alert_ends_by_itself_and_says_what_to_do(rule: Resource) -> None:
    properties = rule["properties"]
    assert (properties["enabled"], properties["autoMitigate"]) == (True, True)
    assert properties["skipQueryValidation"] is True, "a workspace without events has no tables yet"
    assert "muteActionsDuration" not in properties
    own = properties["actions"]["customProperties"]
    assert own.keys() == {"category", "runbook", "dashboard"}
    page, _, anchor = own["runbook"].removeprefix(_RUNBOOK).partition("#")
    if own["category"] == _CATEGORY:
        assert names_of(rule)[0] == "category"
    if page == f"{_CATEGORY}.md":
        return  # tests/docs/test_runbook.py: every category has a page
    path = ROOT / "docs" / "runbook" / page
    assert path.is_file()
    assert not anchor or anchor in anchors(path)


def names_of(rule: Resource) -> list[str]:
    [criterion] = rule["properties"]["criteria"]["allOf"]
    return [dimension["name"] for dimension in criterion["dimensions"]]


@each_rule
def test_dimensions_are_in_the_order_of_the_alphabet(rule: Resource) -> None:
    """The payload of an alert lists them in this order, or in that of the rule."""
    assert names_of(rule) == sorted(names_of(rule))


def test_the_documentation_lists_every_alert_with_its_severity() -> None:
    documented = {(row[0].strip("`"), int(row[1])) for row in rows(ROOT / "docs" / "monitoring.md", "alert")}
    assert documented == {(rule["name"].removeprefix("pullkeeper-"), rule["properties"]["severity"]) for rule in _RULES}


def test_the_documentation_explains_every_chart() -> None:
    explained = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    assert [
        chart["title"] for chart in deployed.charts() if f"*{chart['title'].partition(' (')[0]}*" not in explained
    ] == []


def test_without_action_groups_and_views_the_rules_are_the_same() -> None:
    def plain(rule: Resource) -> dict[str, Any]:
        return {**rule["properties"], "actions": None}

    alone = compiler.read_resources(next(path for path in PARAMETERS if path.stem == "alerts-only"))
    assert [plain(rule) for rule in alone] == [plain(rule) for rule in _RULES]
    assert {tuple(rule["properties"]["actions"]["actionGroups"]) for rule in alone} == {()}
    assert all(len(rule["properties"]["actions"]["actionGroups"]) == 1 for rule in _RULES)


def test_planned_work_silences_one_cluster_alone() -> None:
    [rule] = compiler.read_resources(next(path for path in PARAMETERS if path.stem == "planned-work"))
    [condition] = rule["properties"]["conditions"]
    assert (condition["field"], condition["operator"]) == ("AlertContext", "Contains")
    assert condition["values"][0].endswith("/managedClusters/shop-west")
    assert rule["properties"]["actions"] == [{"actionType": "RemoveAllActionGroups"}]
    assert rule["properties"]["schedule"]["effectiveUntil"]
