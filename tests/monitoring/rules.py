"""Alert rules as Azure Monitor evaluates them, with everything that they say taken from the compiled template.

At each evaluation the query sees the records of its time range. Its rows are aggregated by dimensions and, where they
have the column TimeGenerated, by window; enough windows beyond the threshold fire the alert. It is resolved once the
condition has not been met for three evaluations (of rules that are evaluated every 5 to 15 minutes).
Source: https://learn.microsoft.com/azure/azure-monitor/alerts/alerts-create-log-alert-rule, and alerts-overview.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Self

from pydantic import TypeAdapter

from tests.monitoring.workspace import Row, Workspace

_CALM: Final = 3
_AGGREGATIONS: Final[Mapping[str, Callable[[list[float]], float]]] = {
    "Count": len,
    "Maximum": max,
    "Minimum": min,
    "Total": sum,
}
_OPERATORS: Final = {"GreaterThan": operator.gt, "LessThan": operator.lt}
_DURATION: Final = TypeAdapter(timedelta)
Dimensions = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert from its begin to its end. dimensions: values, in the order of the rule's."""

    rule: str
    dimensions: Dimensions
    fired: datetime
    resolved: datetime | None = None


@dataclass(slots=True)
class Rule:
    """name: without the prefix of the deployment. alerts: all until now, the last of each combination of dimensions in
    force. calm: evaluations in a row that have not met the condition of an alert.
    """

    name: str
    properties: Mapping[str, Any]
    alerts: list[Alert] = field(default_factory=list)
    _fired: dict[Dimensions, Alert] = field(default_factory=dict)
    _calm: dict[Dimensions, int] = field(default_factory=dict)

    @classmethod
    def of(cls, resource: Mapping[str, Any]) -> Self:
        return cls(str(resource["name"]).partition("-")[2], resource["properties"])

    @property
    def criterion(self) -> Mapping[str, Any]:
        [criterion] = self.properties["criteria"]["allOf"]
        return dict(criterion)

    @property
    def frequency(self) -> timedelta:
        return self._duration("evaluationFrequency")

    def evaluate(self, workspace: Workspace, now: datetime) -> None:
        """Evaluate the rule at this time. KeyError for a setting that is not played here."""
        met = self._find_met(workspace, now)
        for dimensions in met - self._fired.keys():
            self._fired[dimensions] = Alert(self.name, dimensions, now)
            self.alerts.append(self._fired[dimensions])
        for dimensions, alert in list(self._fired.items()):
            self._calm[dimensions] = 0 if dimensions in met else self._calm[dimensions] + 1
            if self._calm[dimensions] == _CALM:
                self.alerts[self.alerts.index(alert)] = Alert(self.name, dimensions, alert.fired, now)
                del self._fired[dimensions]

    def _find_met(self, workspace: Workspace, now: datetime) -> set[Dimensions]:
        criterion, window = self.criterion, self._duration("windowSize")
        periods = criterion["failingPeriods"]["numberOfEvaluationPeriods"]
        over = self._duration("overrideQueryTimeRange") or window * periods
        points: dict[Dimensions, dict[int, list[float]]] = {}
        for row in workspace.query(criterion["query"], over=over):
            dimensions = tuple(str(row[one["name"]]) for one in criterion["dimensions"])
            period = int((now - _aware(row["TimeGenerated"], now)) / window) if "TimeGenerated" in row else 0
            if period < periods:
                points.setdefault(dimensions, {}).setdefault(period, []).append(_measure(row, criterion))
        aggregate = _AGGREGATIONS[criterion["timeAggregation"]]
        is_beyond = _OPERATORS[criterion["operator"]]
        return {
            dimensions
            for dimensions, found in points.items()
            if sum(is_beyond(aggregate(values), criterion["threshold"]) for values in found.values())
            >= criterion["failingPeriods"]["minFailingPeriodsToAlert"]
        }

    def _duration(self, name: str) -> timedelta:
        text = self.properties.get(name)
        return _DURATION.validate_python(text) if text else timedelta()


def _measure(row: Row, criterion: Mapping[str, Any]) -> float:
    return float(row[column]) if (column := criterion.get("metricMeasureColumn")) else 1.0


def _aware(moment: datetime, now: datetime) -> datetime:
    return moment.replace(tzinfo=now.tzinfo)
