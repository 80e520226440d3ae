"""What the compiled module deploys: its snapshot, which test_deployed.py keeps up to date."""

import json
from pathlib import Path
from typing import Any, Final

from tests.infra.compiler import Resource, read_resources, write_snapshot

PARAMETERS: Final = sorted(Path(__file__).parent.glob("*.bicepparam"))
RULE: Final = "Microsoft.Insights/scheduledQueryRules"
_ALL: Final = Path(__file__).with_name("monitoring.bicepparam")


def find(kind: str, parameters: Path = _ALL) -> list[Resource]:
    return [resource for resource in read_resources(parameters) if resource["type"] == kind]


def workbook() -> dict[str, Any]:
    return _read("Microsoft.Insights/workbooks")


def grafana() -> dict[str, Any]:
    return _read("Microsoft.Dashboard/dashboards/dashboardDefinitions")


def charts() -> list[dict[str, Any]]:
    """The charts of the workbook."""
    return [item["content"] for item in workbook()["items"] if item["type"] == 3]


def panels() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The panels of the dashboard, each with its query."""
    return [(panel, target["azureLogAnalytics"]) for panel in grafana()["panels"] for target in panel["targets"]]


def alert_queries() -> dict[str, str]:
    """The query of each alert rule, by the rule's name."""
    return {rule["name"]: rule["properties"]["criteria"]["allOf"][0]["query"] for rule in find(RULE)}


def chart_queries() -> dict[str, str]:
    """The queries of workbook and dashboard, by place and title."""
    return {
        **{f"workbook: {chart['title']}": chart["query"] for chart in charts()},
        **{f"grafana: {panel['title']}": target["query"] for panel, target in panels()},
    }


def _read(kind: str) -> dict[str, Any]:
    [resource] = find(kind)
    content: dict[str, Any] = json.loads(resource["properties"]["serializedData"])
    return content


if __name__ == "__main__":
    for one in PARAMETERS:
        write_snapshot(one)
