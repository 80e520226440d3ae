"""Every query of workbook, dashboard, alert rules and runbook: right by Kusto's language service and by the table of
events, and executed: each finds something in a fleet where everything happens.
"""

from collections import defaultdict
from datetime import timedelta
from typing import Final

import pytest

from pullkeeper import errors
from pullkeeper.telemetry import FIELDS
from tests.docs.pages import ROOT, blocks, rows
from tests.monitoring.deployed import alert_queries, chart_queries, charts
from tests.monitoring.everything import happen
from tests.monitoring.kusto import Use, check
from tests.monitoring.schema import CONVERSIONS, METRICS, PROPERTIES
from tests.monitoring.workspace import Row, Workspace
from tests.onboarding.conftest import Onboarding
from tests.world import World

_RUNBOOK: Final = {str(block): block.text for block in blocks("kql")}
_QUERIES: Final = {**alert_queries(), **chart_queries(), **_RUNBOOK}
_TESTS: Final = frozenset({"isempty", "isnotempty"})


def _find_unknown(use: Use) -> set[str]:
    """Return what a pipe reads that no record has, or that it converts to another type."""
    if use.table is None or use.table not in PROPERTIES:
        return {f"Properties.{name} outside of a table's pipe" for name, _ in use.properties}
    known = PROPERTIES[use.table]
    unknown = {f"{use.table} {name}" for name in use.names - known.keys()}
    types: dict[str, set[type]] = defaultdict(set)
    for name in use.names & known.keys() or known.keys():
        for field, type_ in known[name].items():
            types[field].add(type_)
    for field, function in use.properties:
        if not any(function in CONVERSIONS[type_] | _TESTS for type_ in types[field]):
            unknown.add(f"{function}(Properties.{field})")
    return unknown


def test_every_query_is_right_and_reads_what_the_app_emits() -> None:
    checked = dict(zip(_QUERIES, check([*_QUERIES.values()]), strict=True))
    assert len(checked) > 30
    assert {name: one.faults for name, one in checked.items() if one.faults} == {}
    unknown = {name: [_find_unknown(use) for use in one.uses] for name, one in checked.items()}
    assert {name: found for name, found in unknown.items() if any(found)} == {}


_REFUSED: Final = "AppEvents | summarize last = max(Time), messages = countif(isnotempty(Properties.nothing))"
"""With a column that the table does not have, and a keyword as a name."""
_WRONG: Final = {
    _REFUSED: {"isnotempty(Properties.nothing)"},
    """AppEvents | where Name == "run.complete" """: {"AppEvents run.complete"},
    """AppEvents | where Name == "run.completed" | extend a = toint(Properties.cluster)""": {
        "toint(Properties.cluster)"
    },
    """AppEvents | where Name == "run.completed" | extend a = toint(Properties.detail)""": {"toint(Properties.detail)"},
    """AppEvents | where Name == "run.completed" | extend a = Properties.queued""": {"(Properties.queued)"},
    """AppEvents | extend a = tostring(Properties["last"])""": {"tostring(Properties.last)"},
    """AppMetrics | where Name == "queue.depth" | extend a = tostring(Properties.shard)""": {
        "tostring(Properties.shard)"
    },
    """let all = AppEvents; all | extend a = tostring(Properties.queue)""": {
        "Properties.queue outside of a table's pipe"
    },
}


def test_a_query_that_reads_what_no_record_has_is_found() -> None:
    checked = dict(zip(_WRONG, check([*_WRONG]), strict=True))
    assert {query: _find_unknown(checked[query].uses[0]) for query in _WRONG} == _WRONG
    assert {query: len(one.faults) for query, one in checked.items() if one.faults} == {_REFUSED: 2}


def test_the_rule_about_action_names_the_categories_that_a_retry_helps() -> None:
    query = (ROOT / "infra/monitoring/queries/needs-action.kql").read_text()
    named = {kind.category for kind in errors.categories() if f'"{kind.category}"' in query}
    assert named == {kind.category for kind in errors.categories() if kind.retryable}


def test_the_documentation_lists_every_event_with_its_fields() -> None:
    documented = {row[0].strip("`"): row[1] for row in rows(ROOT / "docs" / "monitoring.md", "event")}
    listed = {
        event: ", ".join(
            f"`{name}`" if type_ is str else f"`{name}` ({type_.__name__})" for name, type_ in fields.items()
        )
        for event, fields in FIELDS.items()
    }
    assert documented == listed


@pytest.mark.servers
async def test_every_query_finds_something_where_everything_happens(
    world: World, workspace: Workspace, onboarding: Onboarding
) -> None:
    await happen(world, workspace, onboarding)

    emitted: dict[str, set[str]] = defaultdict(set)
    for event, properties in workspace.events():
        emitted[event] |= properties.keys() - {"logger_name"}
    assert emitted == {event: fields.keys() for event, fields in FIELDS.items()}
    assert workspace.metrics() == {name: dimensions.keys() for name, dimensions in METRICS.items()}
    found = {name: workspace.query(query, over=timedelta(days=1)) for name, query in _QUERIES.items()}
    assert [name for name, rows in found.items() if not rows] == []
    lines = [found[f"workbook: {chart['title']}"] for chart in charts() if chart["visualization"] == "timechart"]
    assert all(_is_drawn(row) for rows in lines for row in rows)


def _is_drawn(row: Row) -> bool:
    """Whether a chart can draw the row: with a time, with numbers, and with at most one text, which names the line."""
    rest = [value for name, value in row.items() if name != "TimeGenerated"]
    texts = [value for value in rest if isinstance(value, str)]
    return (
        "TimeGenerated" in row
        and len(texts) <= 1 < len(row)
        and not set(map(type, rest)) - {str, int, float, type(None)}
    )
